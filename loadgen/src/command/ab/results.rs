//! What `loadgen ab` keeps and shows: a result of each side, written as the pairs come, and their comparison.

use std::fs;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::ab::{Contestant, Entrant, Pairs};
use crate::command::compare::{json_of, write_page};
use crate::compare::fail_if::{Condition, Judged};
use crate::compare::{Options, Set, Source, compare, comparison, table};
use crate::failure::Failure;
use crate::machine::environment;
use crate::page;
use crate::record::recorder::Recorder;
use crate::record::{Environment, FORMAT, Report, VERSION, folder};
use crate::terminal::{self, Progress};

/// The folders of the two sides, within that of the comparison.
const SIDES: [&str; 2] = ["a", "b"];

/// The page and the document of the comparison.
const PAGE: &str = "comparison.html";
const DOCUMENT: &str = "comparison.json";

/// Both results, as they grow.
#[derive(Debug)]
pub struct Results {
    folder: PathBuf,
    recorders: [Recorder; 2],
    kept: [usize; 2],
}

/// What there is to show at the end.
#[derive(Debug)]
pub struct Shown {
    table: String,
    /// The comparison for machines.
    pub json: String,
    /// What came of the conditions.
    pub judged: Vec<Judged>,
}

impl Results {
    /// Begins both in `folder`.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn begin(folder: &Path, entrants: [&Entrant; 2], now: OffsetDateTime) -> Result<Self, Failure> {
        let begin = |side: &str, entrant: &Entrant| {
            let folder = folder.join(side);
            fs::create_dir_all(&folder)
                .map_err(|error| Failure::failed(format!("{} cannot be made: {error}", folder.display())))?;
            Recorder::begin(&folder, report(entrant, now), now)
        };
        let [a, b] = entrants;
        Ok(Self { folder: folder.to_owned(), recorders: [begin(SIDES[0], a)?, begin(SIDES[1], b)?], kept: [0, 0] })
    }

    /// Both servers run: their command lines are known.
    pub fn started(&mut self, contestants: [&Contestant; 2]) {
        for (recorder, contestant) in self.recorders.iter_mut().zip(contestants) {
            recorder.server(&contestant.scenario().target.url, contestant.probe().command());
        }
    }

    /// Where all this happens.
    pub fn environment(&self) -> Environment {
        self.recorders[0].report().environment.clone()
    }

    /// Keeps what has come since. A failure to write is told at the end.
    pub fn add(&mut self, pairs: &Pairs) {
        for (side, repetitions) in [&pairs.a, &pairs.b].into_iter().enumerate() {
            for repetition in &repetitions[self.kept[side]..] {
                let _ = self.recorders[side].end_repetition(repetition.clone());
            }
            self.kept[side] = repetitions.len();
        }
    }

    /// Shows how far it is.
    pub fn show(&self, progress: &mut Progress, pairs: &Pairs, wanted: u32) {
        let [a, b] = self.kept;
        let retaken = if pairs.retaken > 0 { format!(", {} taken again", pairs.retaken) } else { String::new() };
        progress.step(
            &format!("slices of A and B: {a} and {b} of {wanted}{retaken}"),
            (a + b) as u64,
            u64::from(wanted) * 2,
        );
    }

    /// Ends both and compares them; writes their pages, the page of the comparison and its document.
    ///
    /// # Errors
    /// If something cannot be written, or there is no pair to compare.
    pub fn end(
        self,
        taken: &Result<Pairs, Failure>,
        stopped: bool,
        conditions: &[Condition],
        options: &Options,
    ) -> Result<Shown, Failure> {
        let ended_early = match taken {
            Err(failure) => Some(failure.to_string()),
            Ok(_) => stopped.then(|| "interrupted".to_owned()),
        };
        let mut sets = Vec::new();
        for ((recorder, side), name) in self.recorders.into_iter().zip(SIDES).zip(["A", "B"]) {
            let (report, kept) = recorder.end(ended_early.clone());
            kept?;
            let path = self.folder.join(side);
            page::write_report(&path, &report)?;
            sets.push(Set::new(name, vec![Source { path, report }])?);
        }
        if let Err(failure) = taken {
            return Err(failure.clone());
        }
        let [a, b] = sets.as_slice() else { unreachable!("there are two sides") };
        if a.repetitions().is_empty() || b.repetitions().is_empty() {
            return Err(Failure::failed(no_pair(a, b)));
        }
        let comparison = compare(a, b, options);
        let judged = comparison::judge(conditions, a, b, options);
        let json = json_of(a, b, &comparison, &judged)?;
        let revision = |set: &Set| set.sources[0].report.environment.server_revision.clone();
        let title = format!("{} and {}", revision(a), revision(b));
        write_page(&self.folder.join(PAGE), &title, a, b, &comparison)?;
        page::write(self.folder.join(DOCUMENT), &json)?;
        let table = table::heading(a, b) + &table::text(&comparison, &judged, terminal::colours());
        Ok(Shown { table, json, judged })
    }
}

impl Shown {
    /// The table, and what there is to say of the slices.
    pub fn text(&self, pairs: &Pairs, folder: &Path) -> String {
        let mut text = self.table.clone();
        if pairs.retaken > 0 {
            text.push_str(&format!("Taken again, because others were on the cores: {} slices.\n", pairs.retaken));
        }
        if pairs.disturbed > 0 {
            text.push_str(&format!(
                "Kept although disturbed: {} slices; their warnings say by how much.\n",
                pairs.disturbed
            ));
        }
        text.push_str(&format!("Files: {} (a/, b/, {PAGE}, {DOCUMENT})\n", folder.display()));
        text
    }
}

/// Why there is nothing to compare.
fn no_pair(a: &Set, b: &Set) -> String {
    let left_out: Vec<String> = a.left_out().into_iter().chain(b.left_out()).collect();
    format!("there is no pair to compare. {}", left_out.join(" ")).trim_end().to_owned()
}

fn report(entrant: &Entrant, now: OffsetDateTime) -> Report {
    Report {
        format: FORMAT.into(),
        version: VERSION,
        created: folder::timestamp(now),
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        scenario: entrant.scenario.clone(),
        environment: environment::read(&entrant.scenario, None),
        complete: false,
        ended_early: None,
        ceiling: None,
        repetitions: Vec::new(),
    }
}
