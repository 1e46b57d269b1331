//! What a search tried and found: for people, for machines.

use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::Vary;
use crate::compare::fail_if::Condition;
use crate::failure::Failure;
use crate::page;
use crate::record::Repetition;
use crate::record::figures::{Figure, find, grouped};
use crate::search::strategy::Found;

/// What `format` of the document says.
const FORMAT: &str = "fanfare-loadgen-search";

/// The version of its fields.
const VERSION: u32 = 1;

/// One run of a search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Probe {
    /// The load, in the unit of the search.
    pub load: f64,
    /// Whether all conditions held, in a run that was not void.
    pub is_kept: bool,
    /// Whether the load generator was itself the bottleneck.
    pub is_void: bool,
    /// Whether it was made to see again what was seen before.
    pub confirms: bool,
    /// The figures that the conditions are about: key and value.
    pub figures: Vec<(&'static str, Option<f64>)>,
}

/// All of a search.
#[derive(Debug)]
pub struct Outcome {
    vary: Vary,
    conditions: Vec<String>,
    /// What was tried, in order.
    pub probes: Vec<Probe>,
    /// What was found, if it came to an end.
    pub found: Option<Found>,
}

#[derive(Serialize)]
struct Document<'a> {
    format: &'static str,
    version: u32,
    unit: &'static str,
    conditions: &'a [String],
    largest_kept: Option<f64>,
    smallest_missed: Option<f64>,
    probes: &'a [Probe],
}

impl Probe {
    /// What a run with this load came to.
    pub fn of(load: f64, repetition: &Repetition, conditions: &[Condition]) -> Self {
        let is_void = !repetition.void.is_empty();
        let holds = conditions.iter().all(|condition| condition.is_met_by(repetition) == Some(true));
        let mut figures: Vec<(&'static str, Option<f64>)> = Vec::new();
        for figure in conditions.iter().map(Condition::figure).chain(find("deliveries")) {
            if figures.iter().all(|(key, _)| *key != figure.key) {
                figures.push((figure.key, figure.value(repetition)));
            }
        }
        Self { load, is_kept: holds && !is_void, is_void, confirms: false, figures }
    }

    fn words(&self) -> &'static str {
        match (self.is_kept, self.is_void, self.confirms) {
            (_, true, _) => "void",
            (true, _, true) => "kept again",
            (true, _, false) => "kept",
            (false, _, true) => "missed this time",
            (false, _, false) => "missed",
        }
    }
}

impl Outcome {
    /// Nothing tried yet.
    pub fn new(vary: Vary, conditions: &[Condition]) -> Self {
        let conditions = conditions.iter().map(|condition| condition.text().to_owned()).collect();
        Self { vary, conditions, probes: Vec::new(), found: None }
    }

    /// For people.
    pub fn text(&self, folder: &Path) -> String {
        format!(
            "{}\n{}\nFiles: {} (index.html, search.json, a folder for each run)\n",
            self.table(),
            self.sentence(),
            folder.display()
        )
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        let keys = || self.probes.first().into_iter().flat_map(|probe| probe.figures.iter().map(|(key, _)| *key));
        let mut header = vec![self.vary.unit().to_owned(), "objective".to_owned()];
        header.extend(keys().map(str::to_owned));
        table.set_header(header);
        for probe in &self.probes {
            let shown = |(key, value): &(&'static str, Option<f64>)| match (find(key), value) {
                (Some(figure), Some(value)) => Figure::format(figure, *value),
                _ => "not measured".into(),
            };
            let mut row = vec![grouped(probe.load), probe.words().to_owned()];
            row.extend(probe.figures.iter().map(shown));
            table.add_row(row);
        }
        for (n, column) in table.column_iter_mut().enumerate() {
            column.set_cell_alignment(if n == 1 { CellAlignment::Left } else { CellAlignment::Right });
        }
        table
    }

    /// The answer.
    fn sentence(&self) -> String {
        let (unit, objective) = (self.vary.unit(), self.conditions.join(" and "));
        let voids = self.probes.iter().filter(|probe| probe.is_void).count();
        let void = match voids {
            0 => "",
            _ => " Some runs were void: there the load generator, not the server, may have been the limit.",
        };
        match self.found {
            Some(Found::Largest { kept, missed: Some(missed) }) => {
                format!("{kept} {unit} keep {objective}; {missed} do not.{void}")
            }
            Some(Found::Largest { kept, missed: None }) => {
                format!("{kept} {unit} keep {objective}: that is the most that was to be tried.{void}")
            }
            Some(Found::Nothing { missed }) => format!("Not even {missed} {unit} keep {objective}.{void}"),
            None => format!("The search for the largest load that keeps {objective} did not come to its end.{void}"),
        }
    }

    /// For machines.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn json(&self) -> Result<String, Failure> {
        let (largest_kept, smallest_missed) = match self.found {
            Some(Found::Largest { kept, missed }) => (Some(kept), missed),
            Some(Found::Nothing { missed }) => (None, Some(missed)),
            None => (None, None),
        };
        let document = Document {
            format: FORMAT,
            version: VERSION,
            unit: self.vary.unit(),
            conditions: &self.conditions,
            largest_kept,
            smallest_missed,
            probes: &self.probes,
        };
        let text = serde_json::to_string_pretty(&document);
        text.map(|text| text + "\n").map_err(|error| Failure::failed(format!("the search cannot be written: {error}")))
    }

    /// Writes [`Self::json`].
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        page::write(path.to_owned(), &self.json()?).map(drop)
    }

    /// Whether something was found.
    ///
    /// # Errors
    /// A [`Failure::Failed`] if not even the smallest load kept the objective.
    pub fn verdict(&self) -> Result<(), Failure> {
        match self.found {
            Some(Found::Nothing { .. }) => Err(Failure::failed(self.sentence())),
            _ => Ok(()),
        }
    }
}
