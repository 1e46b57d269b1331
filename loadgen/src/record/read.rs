//! Results read back. A file that is not what it should be is refused with one sentence that names it and says why.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::Failure;
use crate::measure::Measurement;
use crate::record::folder::REPORT_FILE;
use crate::record::{FORMAT, Repetition, Report, VERSION};

/// How deep under a folder results are looked for.
const DEPTH_MAX: usize = 4;

/// What every version of the format holds.
#[derive(Deserialize)]
struct Head {
    format: Option<String>,
    version: Option<u64>,
}

/// Reads a result: `path` is a `report.json` or the folder that holds one.
///
/// Nothing of that name is a [`Failure::Usage`]. A file that cannot be read, is no JSON, is cut in half, or is of another
/// format or version is a [`Failure::Failed`].
pub fn read(path: &Path) -> Result<Report, Failure> {
    let file = if path.is_dir() { path.join(REPORT_FILE) } else { path.to_owned() };
    let bytes = fs::read(&file).map_err(|error| match error.kind() {
        ErrorKind::NotFound if path.is_dir() => {
            Failure::usage(format!("{} holds no result: there is no {REPORT_FILE} in it", path.display()))
        }
        ErrorKind::NotFound => Failure::usage(format!("{} is not there", path.display())),
        _ => Failure::failed(format!("{} cannot be read: {error}", file.display())),
    })?;
    parse(&bytes).map_err(|reason| Failure::failed(format!("{} {reason}", file.display())))
}

/// The report that the bytes of a `report.json` hold, or what is wrong with them: the rest of a sentence about the file.
pub fn parse(bytes: &[u8]) -> Result<Report, String> {
    let head: Head = serde_json::from_slice(bytes).map_err(|error| broken(bytes, &error))?;
    match head.format.as_deref() {
        Some(FORMAT) => {}
        Some(format) => return Err(format!("is no result of loadgen: its format is '{format}', not '{FORMAT}'")),
        None => return Err(format!("is no result of loadgen: it has no format, where '{FORMAT}' should be")),
    }
    match head.version {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            return Err(format!("is of version {version} of its format; this loadgen reads version {VERSION}"));
        }
        None => return Err(format!("does not say of which version of its format it is; this loadgen reads {VERSION}")),
    }
    let mut report: Report = serde_json::from_slice(bytes).map_err(|error| broken(bytes, &error))?;
    report.repetitions.iter_mut().for_each(recover);
    Ok(report)
}

/// A repetition whose process was killed has intervals only: what they hold is what was measured.
fn recover(repetition: &mut Repetition) {
    if repetition.complete || repetition.measurement != Measurement::default() {
        return;
    }
    let measurement = &mut repetition.measurement;
    for interval in repetition.intervals.iter().filter(|interval| interval.begin_ns >= 0) {
        measurement.window_ns += interval.length_ns;
        measurement.published += interval.published;
        measurement.received += interval.received;
        measurement.corrected.merge(&interval.corrected);
    }
    measurement.corrected.pack();
}

/// What is wrong, with the byte where it was seen.
fn broken(bytes: &[u8], error: &serde_json::Error) -> String {
    if bytes.is_empty() {
        return "is empty".into();
    }
    let position = byte_position(bytes, error.line(), error.column());
    // A number cut after its point is called invalid, though what is wrong with it is that the file ends there.
    if error.is_eof() || (error.is_syntax() && position >= bytes.len()) {
        return format!("is cut off: it ends at byte {}, in the middle of its JSON", bytes.len());
    }
    // serde_json says the place in lines and columns; a result is one line, so the byte is what helps.
    let reason = error.to_string();
    let reason = reason.split(" at line ").next().unwrap_or_default();
    if error.is_data() {
        format!("does not hold what a result holds: {reason} (at byte {position})")
    } else {
        format!("is no JSON: {reason} at byte {position}")
    }
}

fn byte_position(bytes: &[u8], line: usize, column: usize) -> usize {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').take(line.saturating_sub(1));
    lines.map(<[u8]>::len).sum::<usize>() + column
}

/// The folders under `root` (itself included) that hold a result, sorted by path.
///
/// A folder that cannot be listed is a [`Failure::Failed`]; one that is not there a [`Failure::Usage`].
pub fn list(root: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !root.is_dir() {
        return Err(Failure::usage(format!("{} is no folder", root.display())));
    }
    let mut found = Vec::new();
    collect(root, DEPTH_MAX, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if folder.join(REPORT_FILE).is_file() {
        found.push(folder.to_owned());
    }
    if depth == 0 {
        return Ok(());
    }
    let failed = |error: std::io::Error| Failure::failed(format!("{} cannot be listed: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        // Links are not followed: they could lead in circles.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), depth - 1, found)?;
        }
    }
    Ok(())
}
