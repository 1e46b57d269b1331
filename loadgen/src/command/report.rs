//! `loadgen report DIR`: the pages of stored results.

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::page::index::{Entry, index_page};
use crate::page::{self, INDEX_PAGE, REPORT_PAGE};
use crate::record::folder::REPORT_FILE;
use crate::record::read;
use crate::terminal;

/// Writes the page of the result in `dir`, or an index page over all results under it and those of their pages that are
/// missing or older than their result. Says on standard output what was written.
///
/// A folder without any result is a [`Failure::Usage`]. Under an index, a result that cannot be read is told on standard
/// error and in the page, a page that cannot be written on standard error, and neither stops the others; if none can be read, that is a [`Failure::Failed`].
pub fn run(dir: &Path) -> Result<(), Failure> {
    let written = write_pages(dir)?;
    terminal::print(&written.iter().map(|path| format!("{}\n", path.display())).collect::<String>())
}

/// Does what [`run`] says, and gives the paths of what was written.
pub fn write_pages(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    if dir.join(REPORT_FILE).is_file() {
        return Ok(vec![page::write_report(dir, &read::read(dir)?)?]);
    }
    let folders = read::list(dir)?;
    if folders.is_empty() {
        return Err(Failure::usage(format!(
            "{} holds no result: there is no {REPORT_FILE} in it or below",
            dir.display()
        )));
    }
    let (mut entries, mut unreadable, mut written) = (Vec::new(), Vec::new(), Vec::new());
    let mut unwritten = Vec::new();
    for folder in &folders {
        // One at a time: a result is large in memory, and there may be hundreds.
        match read::read(folder) {
            Ok(report) => {
                if is_stale(folder) {
                    match page::write_report(folder, &report) {
                        Ok(page) => written.push(page),
                        Err(failure) => unwritten.push(failure.to_string()),
                    }
                }
                entries.push(Entry::new(&report, link(dir, folder)));
            }
            Err(failure) => unreadable.push(failure.to_string()),
        }
    }
    for sentence in unreadable.iter().chain(&unwritten) {
        eprintln!("loadgen: {sentence}");
    }
    if entries.is_empty() {
        return Err(Failure::failed(format!(
            "none of the {} results under {} can be read",
            folders.len(),
            dir.display()
        )));
    }
    let page = index_page(&title(dir), entries, &unreadable);
    written.push(page::write(dir.join(INDEX_PAGE), &page)?);
    Ok(written)
}

/// Whether a result has no page, or one from before it was last written.
fn is_stale(folder: &Path) -> bool {
    let changed = |name: &str| std::fs::metadata(folder.join(name)).and_then(|data| data.modified()).ok();
    match (changed(REPORT_PAGE), changed(REPORT_FILE)) {
        (Some(page), Some(report)) => page < report,
        _ => true,
    }
}

/// The page of a result from the index's place, as a relative address.
fn link(dir: &Path, folder: &Path) -> String {
    let relative = folder.strip_prefix(dir).unwrap_or(folder);
    let parts = relative.components().map(|part| escaped(&part.as_os_str().to_string_lossy()));
    let mut link: Vec<String> = parts.collect();
    link.push(REPORT_PAGE.into());
    link.join("/")
}

/// A part of a path as it stands in an address.
fn escaped(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    part.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The folder's own name, even if it was given as `.`.
fn title(dir: &Path) -> String {
    let whole = std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    whole.file_name().map_or_else(|| "results".into(), |name| name.to_string_lossy().into_owned())
}
