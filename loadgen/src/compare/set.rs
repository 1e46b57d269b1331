//! One side of a comparison: the repetitions of one result or of several.

use std::path::{Path, PathBuf};

use crate::compare::family::{Column, PairedColumn};
use crate::compare::outcome::Weight;
use crate::failure::Failure;
use crate::record::figures::Figure;
use crate::record::{Repetition, Report, read};

/// Figures of the connection phase. Repetitions that keep their connections share one such phase: it counts once.
const OF_CONNECTING: [&str; 3] = ["handshake-p50", "handshake-p99", "connects"];

/// A stored result.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its folder, as it was given.
    pub path: PathBuf,
    /// What is in it.
    pub report: Report,
}

/// One side.
#[derive(Debug, Clone, PartialEq)]
pub struct Set {
    /// `A` or `B`.
    pub name: &'static str,
    /// Its results, at least one.
    pub sources: Vec<Source>,
}

impl Set {
    /// Reads the results of one side. The same result twice is a [`Failure::Usage`]: its repetitions would count twice.
    pub fn read(name: &'static str, paths: &[PathBuf]) -> Result<Self, Failure> {
        let read = |path: &PathBuf| Ok(Source { path: path.clone(), report: read::read(path)? });
        Self::new(name, paths.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// One side of these results, of which there must be one at least, and none twice.
    pub fn new(name: &'static str, sources: Vec<Source>) -> Result<Self, Failure> {
        if sources.is_empty() {
            return Err(Failure::usage(format!("there is no result for side {name}")));
        }
        for (n, source) in sources.iter().enumerate() {
            if let Some(twin) = sources[..n].iter().find(|other| is_same(other, source)) {
                return Err(Failure::usage(format!(
                    "{} and {} on side {name} are the same result: its repetitions would count twice",
                    twin.path.display(),
                    source.path.display()
                )));
            }
        }
        Ok(Self { name, sources })
    }

    /// Whether a result is on both sides.
    pub fn shares_a_result_with(&self, other: &Self) -> bool {
        self.sources.iter().any(|source| other.sources.iter().any(|other| is_same(source, other)))
    }

    /// The results.
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        self.sources.iter().map(|source| &source.report)
    }

    /// The repetitions that may be used: whole and not void.
    pub fn repetitions(&self) -> Vec<&Repetition> {
        self.reports()
            .flat_map(|report| report.repetitions.iter().filter(|repetition| repetition.is_usable()))
            .collect()
    }

    /// What is left out, and why: a sentence for each result that loses repetitions.
    pub fn left_out(&self) -> Vec<String> {
        self.sources.iter().filter_map(|source| self.left_out_of(source)).collect()
    }

    fn left_out_of(&self, source: &Source) -> Option<String> {
        let repetitions = &source.report.repetitions;
        let void: Vec<&Repetition> = repetitions.iter().filter(|repetition| !repetition.void.is_empty()).collect();
        let cut = repetitions.iter().filter(|repetition| !repetition.complete && repetition.void.is_empty()).count();
        let why = void.first().and_then(|repetition| repetition.void.first());
        let void = why.map(|why| format!("{} void ({})", void.len(), why.trim_end_matches('.')));
        let cut = (cut > 0).then(|| format!("{cut} not complete"));
        let told: Vec<String> = void.into_iter().chain(cut).collect();
        let of = format!("of the {} repetitions of {} ({})", repetitions.len(), self.name, source.path.display());
        (!told.is_empty()).then(|| format!("Left out {of}: {}.", told.join(" and ")))
    }

    /// A figure of all usable repetitions.
    pub fn values(&self, figure: &Figure) -> Vec<Option<f64>> {
        self.reports().flat_map(|report| values(report, figure)).collect()
    }
}

/// A figure of the usable repetitions of one result.
pub(crate) fn values(report: &Report, figure: &Figure) -> Vec<Option<f64>> {
    let usable: Vec<&Repetition> = report.repetitions.iter().filter(|repetition| repetition.is_usable()).collect();
    let of_connecting = OF_CONNECTING.contains(&figure.key);
    let is_repeated = |n: usize| usable[..n].iter().any(|earlier| earlier.connecting == usable[n].connecting);
    let value = |(n, repetition): (usize, &&Repetition)| match of_connecting && is_repeated(n) {
        true => None,
        false => figure.value(repetition),
    };
    usable.iter().enumerate().map(value).collect()
}

/// A figure of both sides.
pub fn column(figure: &Figure, weight: Weight, a: &Set, b: &Set) -> Column {
    Column { a: a.values(figure), b: b.values(figure), weight }
}

/// A figure of all pairs; none where one of the two was not measured, or must not be used.
pub fn paired_column(figure: &Figure, weight: Weight, a: &Set, b: &Set) -> PairedColumn {
    let all = |set: &Set| -> Vec<Option<f64>> {
        let repetitions = set.reports().flat_map(|report| &report.repetitions);
        repetitions.map(|repetition| figure.value(repetition).filter(|_| repetition.is_usable())).collect()
    };
    let pairs = all(a).into_iter().zip(all(b)).map(|(a, b)| a.zip(b));
    PairedColumn { pairs: pairs.collect(), weight }
}

fn is_same(one: &Source, other: &Source) -> bool {
    let canonical = |path: &Path| std::fs::canonicalize(path).ok();
    one.report == other.report || canonical(&one.path).is_some_and(|path| canonical(&other.path) == Some(path))
}
