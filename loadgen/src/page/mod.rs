//! What is looked at: self-contained HTML pages of one result, of two compared, and of a folder of many.
//!
//! A page needs nothing but itself: style, script and plots stand in it, nothing is loaded from anywhere. Text from results
//! (names, command lines, causes) is escaped by maud.

pub mod compare;
pub mod index;
pub mod layout;
mod parts;
pub mod plot;
pub mod run;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::record::Report;

/// The page of a result, beside its `report.json`.
pub const REPORT_PAGE: &str = "report.html";

/// The page over a folder of results.
pub const INDEX_PAGE: &str = "index.html";

/// Writes the page of a result into its folder, and gives its path.
///
/// A file that cannot be written is a [`Failure::Failed`] that names it.
pub fn write_report(folder: &Path, report: &Report) -> Result<PathBuf, Failure> {
    write(folder.join(REPORT_PAGE), &run::run_page(report))
}

/// Writes a page, and gives its path back.
///
/// A file that cannot be written is a [`Failure::Failed`] that names it.
pub fn write(path: PathBuf, page: &str) -> Result<PathBuf, Failure> {
    match fs::write(&path, page) {
        Ok(()) => Ok(path),
        Err(error) => Err(Failure::failed(format!("{} cannot be written: {error}", path.display()))),
    }
}
