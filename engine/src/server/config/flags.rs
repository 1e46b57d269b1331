//! The command line: a flag for each row of the table, and a few that are no settings.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::merge::{Entry, Found};
use super::mistake::{Mistake, Refused, Source};
use super::nearest::nearest;
use super::rules;
use super::table::{SECTIONS, Setting, settings};
use super::value::{Kind, Value};

const ABOUT: &str = "One publication goes in, and every subscriber of its topic gets it over a WebSocket.";
const LONG_ABOUT: &str = "One publication goes in, and every subscriber of its topic gets it over a WebSocket.\n\n\
     Without options it listens on this machine only; open the printed address in a browser to try it. Each setting \
     --some-name is also the environment variable FANFARE_SOME_NAME (lists parted by commas) and the key some_name of the \
     file; flags win over the environment, and that over the file.";

const TOPIC: &str = "Settings of one topic or of all that match a pattern, as 'PATTERN:SETTING=VALUE,SETTING=VALUE'. May be \
     repeated; the most specific pattern decides. Settings: history_messages, history_bytes, history_age_s, policy, \
     pending_messages, pending_bytes, pending_age_ms. Example: 'prices.>:policy=conflate,history_messages=1'. In \
     FANFARE_TOPIC rules are parted by ';'";
const ROLE: &str = "What clients of a role may do with which topics, as 'NAME:subscribe=PATTERN|PATTERN,publish=…,history=…,\
     admin=…'; {sub} in a pattern is the client's own name. May be repeated. The role 'default' is everybody who is \
     authenticated, 'anonymous' everybody who is not. In FANFARE_ROLE roles are parted by ';'";
const CONFIG: &str = "A file with settings (TOML), see --print-default-config";
const CHECK: &str =
    "Check the configuration, print it with where each value comes from, and end: with 2 if it cannot be used";
const PRINT: &str = "Print a file with all settings, their meaning and their defaults, and end";

const HEALTH: &str = "Ask the server that runs with this configuration whether it is alive, and end: with 0 if it is";

/// What is to be done with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Task {
    /// Serve.
    #[default]
    Serve,
    /// Print it, with where each value comes from.
    Check,
    /// Print the file of all defaults.
    PrintDefault,
    /// Ask the server that runs with it whether it is alive.
    Health,
}

/// What the arguments say.
#[derive(Debug, Default)]
pub struct Flags {
    /// The file.
    pub file: Option<PathBuf>,
    /// What is to be done.
    pub task: Task,
    /// The settings.
    pub found: Found,
}

/// The whole command line.
pub fn command() -> Command {
    let command = Command::new("fanfare").version(env!("CARGO_PKG_VERSION")).about(ABOUT).long_about(LONG_ABOUT);
    let command = command.max_term_width(110).allow_negative_numbers(true).args_override_self(false);
    let own = "Configuration";
    let command = command.args([
        value("config", "FILE", CONFIG).help_heading(own),
        Arg::new("check-config").long("check-config").action(ArgAction::SetTrue).help(CHECK).help_heading(own),
        Arg::new("print-default-config")
            .long("print-default-config")
            .action(ArgAction::SetTrue)
            .help(PRINT)
            .help_heading(own),
        Arg::new("health").long("health").action(ArgAction::SetTrue).help(HEALTH).help_heading(own),
    ]);
    SECTIONS.iter().fold(command, |command, section| {
        let heading = heading(section.name);
        let own = settings().iter().filter(|setting| setting.section.name == section.name);
        let command = command.args(own.map(|setting| flag(setting).help_heading(heading)));
        match section.name {
            "topics" => command.arg(value("topic", "RULE", TOPIC).help_heading(heading)),
            "auth" => command.arg(value("role", "RULE", ROLE).help_heading(heading)),
            _ => command,
        }
    })
}

fn heading(section: &'static str) -> &'static str {
    match section {
        "network" => "Network",
        "tls" => "TLS",
        "threads" => "Threads",
        "limits" => "Limits",
        "topics" => "Topics",
        "auth" => "Authentication",
        "shutdown" => "Shutdown",
        "log" => "Log",
        other => other,
    }
}

fn value(name: &'static str, form: &'static str, help: impl Into<clap::builder::StyledStr>) -> Arg {
    let arg = Arg::new(name).long(name).value_name(form).help(help.into());
    arg.action(ArgAction::Append).value_parser(clap::value_parser!(OsString))
}

fn flag(setting: &'static Setting) -> Arg {
    let arg = value(&setting.flag, setting.row.kind.form(), help(setting));
    match setting.row.kind {
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => arg,
    }
}

fn help(setting: &Setting) -> String {
    let row = setting.row;
    let default = row.get(&super::Config::default());
    let mut text = row.meaning();
    if matches!(row.kind, Kind::List { .. }) {
        text += " May be repeated.";
    }
    match default.shown().filter(|_| default != Value::Switch(false)) {
        Some(default) => format!("{} [default: {default}]", text.trim_end_matches('.')),
        None => text.trim_end_matches('.').to_owned(),
    }
}

/// Reads the arguments, the program's name first.
///
/// # Errors
/// The help or the version, if they are asked for.
pub fn read(arguments: &[OsString]) -> Result<Flags, Refused> {
    let mut flags = Flags::default();
    let mut arguments = arguments.to_vec();
    // Clap ends with the first argument it does not understand: without that it goes on to find the next.
    let matches = loop {
        match command().try_get_matches_from(&arguments) {
            Ok(matches) => break matches,
            Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
                return Err(Refused::Shown(error.render().to_string()));
            }
            Err(error) => {
                flags.found.mistakes.push(mistake(&error));
                if !remove(&mut arguments, &error) {
                    return Ok(flags);
                }
            }
        }
    };
    flags.file = matches.get_one::<OsString>("config").map(PathBuf::from);
    let tasks = [("print-default-config", Task::PrintDefault), ("check-config", Task::Check), ("health", Task::Health)];
    let asked = tasks.into_iter().find(|(flag, _)| matches.get_flag(flag));
    flags.task = asked.map_or(Task::Serve, |(_, task)| task);
    read_settings(&matches, &mut flags.found);
    Ok(flags)
}

fn read_settings(matches: &ArgMatches, found: &mut Found) {
    let single = |id: &str| id == "config" || settings().iter().any(|setting| setting.flag == id && !is_list(setting));
    for id in matches.ids().map(clap::Id::as_str) {
        // Switches that are no settings have no such values.
        let Ok(Some(values)) = matches.try_get_many::<OsString>(id) else { continue };
        let source = Source::Flag(id.to_owned());
        let Some(values) = values.map(|value| value.to_str()).collect::<Option<Vec<_>>>() else {
            found.mistakes.push(Mistake::new(source, "the value is not UTF-8"));
            continue;
        };
        if single(id) && values.len() > 1 {
            found.mistakes.push(Mistake::new(source, format!("is given {} times: once is enough", values.len())));
        } else if let Some(setting) = settings().iter().find(|setting| setting.flag == id) {
            found.add(Entry::of_texts(setting, &values, source));
        } else if id != "config" {
            rules::read_texts(id, &values, &source, found);
        }
    }
}

fn is_list(setting: &Setting) -> bool {
    matches!(setting.row.kind, Kind::List { .. })
}

/// The sentence for an error of clap.
fn mistake(error: &clap::Error) -> Mistake {
    let argument = invalid_argument(error).unwrap_or_default();
    let name = argument.trim_start_matches('-').split(['=', ' ']).next().unwrap_or_default().to_owned();
    if error.kind() == ErrorKind::UnknownArgument && argument.starts_with("--") {
        let command = command();
        let known = command.get_arguments().filter_map(Arg::get_long);
        let hint =
            nearest(&name, known).map_or("fanfare --help names all".into(), |near| format!("did you mean --{near}?"));
        return Mistake::new(Source::Flag(name), format!("there is no such flag: {hint}"));
    }
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    Mistake::new(Source::Default, first.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn invalid_argument(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(argument) => Some(argument.clone()),
        _ => None,
    }
}

/// Takes away the argument an error is about, with its value; `false` if it cannot be told which it is.
fn remove(arguments: &mut Vec<OsString>, error: &clap::Error) -> bool {
    let Some(argument) = invalid_argument(error) else { return false };
    // As clap tells it: with the form of its value, as in '--shards <N>'.
    let name = argument.split([' ', '=']).next().unwrap_or_default().trim_end_matches('[');
    let is_it = |given: &OsString| {
        let given = given.to_string_lossy();
        given == argument || given == name || given.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
    };
    let Some(at) = arguments.iter().skip(1).position(is_it).map(|at| at + 1) else { return false };
    let removed = arguments.remove(at);
    let has_value = |next: &OsString| !next.to_string_lossy().starts_with("--");
    if name.starts_with("--") && removed.to_string_lossy() == name && arguments.get(at).is_some_and(has_value) {
        arguments.remove(at);
    }
    true
}
