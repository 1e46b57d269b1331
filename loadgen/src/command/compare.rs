//! `loadgen compare A B`: is B better, worse, or is there no difference to be seen?

use std::path::{Path, PathBuf};

use clap::Args;

use crate::compare::fail_if::{self, Condition, Judged, Met};
use crate::compare::json::Document;
use crate::compare::outcome::Settings;
use crate::compare::set::Set;
use crate::compare::{Comparison, Options, comparable, comparison, table};
use crate::failure::Failure;
use crate::page;
use crate::page::compare::compare_page;
use crate::record::Report;
use crate::record::figures::Figure;
use crate::terminal;

/// What `loadgen compare` can be asked.
#[derive(Debug, Clone, Args)]
#[command(after_long_help = "\
VERDICTS
  better, worse           B differs, and by more than --least. Among all figures compared
                          together, the chance that alike servers are called different
                          anywhere is at most 5%.
  no difference (±3.1%)   None could be shown; one of about that size would have been.
  no difference proven    It would count if it were the only figure; see the notes.
  not enough repetitions  Fewer than 4 usable repetitions on a side.
  A and B are medians; B / A is the median of the ratios of all of B's to all of A's.

EXIT CODES
  0 compared, whatever the verdict; 99 a condition of --fail-if is met; 1 a result cannot be read;
  2 asked wrongly, or the results cannot be compared

EXAMPLES
  loadgen compare results/main results/branch --fail-if 'p99>+5%' --fail-if 'lost>0'
  loadgen compare --a main-1 --a main-2 --b branch-1 --b branch-2 --html comparison.html")]
pub struct CompareArgs {
    /// Two result folders: A, what was before, and B, what is judged
    #[arg(value_names = ["A", "B"], num_args = 2, required_unless_present_all = ["a", "b"], conflicts_with_all = ["a", "b"])]
    pub folders: Vec<PathBuf>,

    /// A result of side A; may be given again, the repetitions of all are taken together
    #[arg(long, value_name = "DIR", requires = "b")]
    pub a: Vec<PathBuf>,

    /// A result of side B; may be given again
    #[arg(long, value_name = "DIR", requires = "a")]
    pub b: Vec<PathBuf>,

    /// Compare only this figure, for example p99; may be given again. Fewer figures need less evidence
    #[arg(long, value_name = "FIGURE")]
    pub figure: Vec<String>,

    /// Exit with 99 if this is met with confidence; may be given again. FIGURE>+5% or FIGURE<-3% is a change from A to B (its
    /// whole 95% interval beyond), FIGURE>20ms is B's value (the 95% interval of its median beyond); a count such as lost>0 is
    /// met if one repetition of B meets it. Never met by too few repetitions
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<String>,

    /// Compare what cannot be compared (another load, machine or payload, an unfinished run), and list in what it differs
    #[arg(long)]
    pub anyway: bool,

    /// A difference of less than this many percent is not called better or worse, however certain it is
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = percent)]
    pub least: f64,

    /// Seed of the resampling; the same seed gives the same result
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,

    /// Print the comparison as JSON, single repetitions included, instead of the table
    #[arg(long)]
    pub json: bool,

    /// Write a page with both curves on one plot
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Percent, with or without its sign, as a share.
fn percent(text: &str) -> Result<f64, String> {
    let number: f64 = text.trim_end_matches('%').trim().parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=100.0).contains(&number) { Ok(number / 100.0) } else { Err("it lies from 0 to 100".into()) }
}

/// Compares two results, or two sets of them, and prints what came of it.
///
/// What cannot be compared, an unknown figure, a condition that is none: [`Failure::Usage`]. A result that cannot be read, a
/// page that cannot be written: [`Failure::Failed`]. A condition met with confidence: [`Failure::Condition`], which names all
/// that are met.
pub fn run(args: &CompareArgs) -> Result<(), Failure> {
    let (text, judged) = compared(args)?;
    terminal::print(&text)?;
    met(&judged)
}

/// Does all but printing: the text, and what came of the conditions.
fn compared(args: &CompareArgs) -> Result<(String, Vec<Judged>), Failure> {
    let (conditions, figures) = asked(&args.fail_if, &args.figure)?;
    let settings = settings(args.seed, args.least);
    let (a, b) = sides(args)?;
    comparable::check(&a, &b, args.anyway)?;
    let options = Options { figures, settings, paired: false };
    let comparison = crate::compare::compare(&a, &b, &options);
    let judged = comparison::judge(&conditions, &a, &b, &options);
    if let Some(path) = &args.html {
        write_page(path, &format!("{} and {}", names(&a), names(&b)), &a, &b, &comparison)?;
    }
    let text = if args.json {
        json_of(&a, &b, &comparison, &judged)?
    } else {
        table::heading(&a, &b) + &table::text(&comparison, &judged, terminal::colours())
    };
    Ok((text, judged))
}

/// The conditions of `--fail-if` and the figures of `--figure`.
///
/// # Errors
/// A [`Failure::Usage`] that names what is wrong with one.
pub(super) fn asked(fail_if: &[String], figure: &[String]) -> Result<(Vec<Condition>, Vec<&'static Figure>), Failure> {
    let conditions = fail_if.iter().map(|text| text.parse()).collect::<Result<_, _>>().map_err(flag("--fail-if"))?;
    let figures: Vec<_> =
        figure.iter().map(|key| fail_if::figure(key)).collect::<Result<_, _>>().map_err(flag("--figure"))?;
    Ok((conditions, unique(figures)))
}

/// How it is reckoned; `least` as a share.
pub(super) fn settings(seed: u64, least: f64) -> Settings {
    Settings { seed, least, ..Settings::default() }
}

/// The comparison for machines.
///
/// # Errors
/// If it cannot be written as JSON.
pub(super) fn json_of(a: &Set, b: &Set, comparison: &Comparison, judged: &[Judged]) -> Result<String, Failure> {
    let document = Document::new(a, b, comparison, judged.to_vec());
    Ok(serde_json::to_string_pretty(&document).map_err(|error| Failure::failed(error.to_string()))? + "\n")
}

fn flag(name: &str) -> impl Fn(String) -> Failure {
    move |reason| Failure::usage(format!("{name}: {reason}"))
}

fn unique(figures: Vec<&'static Figure>) -> Vec<&'static Figure> {
    let mut unique: Vec<&'static Figure> = Vec::new();
    for figure in figures {
        if unique.iter().all(|known| known.key != figure.key) {
            unique.push(figure);
        }
    }
    unique
}

fn sides(args: &CompareArgs) -> Result<(Set, Set), Failure> {
    let (a, b) = match args.folders.as_slice() {
        [a, b] => (std::slice::from_ref(a), std::slice::from_ref(b)),
        _ => (args.a.as_slice(), args.b.as_slice()),
    };
    Ok((Set::read("A", a)?, Set::read("B", b)?))
}

/// Fails if a condition is met, naming all that are.
///
/// # Errors
/// A [`Failure::Condition`].
pub(super) fn met(judged: &[Judged]) -> Result<(), Failure> {
    let met = judged.iter().filter(|judged| judged.met == Met::Yes);
    let met: Vec<String> = met.map(|judged| format!("{} ({})", judged.condition, judged.sentence)).collect();
    match met.as_slice() {
        [] => Ok(()),
        [one] => Err(Failure::Condition(format!("a condition is met: {one}"))),
        several => Err(Failure::Condition(format!("{} conditions are met: {}", several.len(), several.join("; ")))),
    }
}

/// The page with both curves.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write_page(path: &Path, title: &str, a: &Set, b: &Set, comparison: &Comparison) -> Result<(), Failure> {
    let reports = |set: &Set| -> Vec<Report> { set.reports().cloned().collect() };
    let rows: Vec<_> = comparison.rows.iter().filter(|row| !row.is_clean()).map(table::words).collect();
    page::write(path.to_owned(), &compare_page(title, &reports(a), &reports(b), &rows, &table::told(comparison)))
        .map(drop)
}

/// The names of the results' folders.
fn names(set: &Set) -> String {
    let name = |source: &crate::compare::Source| match source.path.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => source.report.scenario.name.clone(),
    };
    set.sources.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample::Sample;

    fn sample(seed: u64, repetitions: u32, factor: f64) -> Report {
        Sample { seed, repetitions, factor, seconds: 2, subscribers: 100, rate: 50, ..Sample::default() }.report()
    }

    fn run_quietly(args: &CompareArgs) -> Result<(), Failure> {
        met(&compared(args)?.1)
    }

    fn stored(folder: &Path, name: &str, report: &Report) -> PathBuf {
        let path = folder.join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join("report.json"), serde_json::to_vec(report).unwrap()).unwrap();
        path
    }

    fn arguments(folders: [&Path; 2]) -> CompareArgs {
        CompareArgs {
            folders: folders.map(Path::to_owned).to_vec(),
            a: Vec::new(),
            b: Vec::new(),
            figure: Vec::new(),
            fail_if: Vec::new(),
            anyway: false,
            least: 0.01,
            seed: 1,
            json: true,
            html: None,
        }
    }

    #[test]
    fn the_command_reads_results_writes_a_page_and_ends_with_the_right_code() {
        let folder = tempfile::tempdir().unwrap();
        let a = stored(folder.path(), "before", &sample(1, 5, 1.0));
        let b = stored(folder.path(), "after", &sample(2, 5, 1.4));
        let page = folder.path().join("page.html");
        let fine = CompareArgs { html: Some(page.clone()), ..arguments([&a, &b]) };
        assert_eq!(run_quietly(&fine), Ok(()));
        let page = std::fs::read_to_string(page).unwrap();
        for part in ["before and after", "What to know", "None on either side: ", "slower"] {
            assert!(page.contains(part), "{part} is not on the page");
        }
        let conditions = vec!["p50>+5%".into(), "p50>+900%".into(), "max>1us".into()];
        let failure = run_quietly(&CompareArgs { fail_if: conditions, ..arguments([&a, &b]) }).unwrap_err();
        assert_eq!(failure.exit_code(), 99);
        let told = failure.to_string();
        assert!(told.starts_with("2 conditions are met: p50>+5% (") && told.contains("; max>1us ("), "{told}");
        let unknown = run_quietly(&CompareArgs { figure: vec!["p42".into()], ..arguments([&a, &b]) }).unwrap_err();
        assert!(matches!(&unknown, Failure::Usage(told) if told.starts_with("--figure: there is no figure 'p42'")));
        assert_eq!(run_quietly(&arguments([&a, &folder.path().join("nowhere")])).unwrap_err().exit_code(), 2);
        std::fs::write(b.join("report.json"), "{\"format\"").unwrap();
        assert_eq!(run_quietly(&arguments([&a, &b])).unwrap_err().exit_code(), 1);
    }

    #[test]
    fn arguments_are_two_folders_or_any_number_a_side() {
        #[derive(Debug, clap::Parser)]
        struct Program {
            #[command(flatten)]
            compare: CompareArgs,
        }
        let parsed = |words: &[&str]| {
            let words = ["loadgen"].iter().chain(words);
            <Program as clap::Parser>::try_parse_from(words).map(|program| program.compare)
        };
        assert_eq!(parsed(&["x", "y"]).unwrap().folders.len(), 2);
        let several = parsed(&["--a", "x", "--a", "y", "--b", "z", "--least", "2.5%"]).unwrap();
        assert_eq!((several.a.len(), several.b.len(), several.least), (2, 1, 0.025));
        for wrong in [
            &["x"][..],
            &["x", "y", "z"],
            &["--a", "x"],
            &["x", "y", "--a", "z", "--b", "w"],
            &[],
            &["x", "y", "--least", "no"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
