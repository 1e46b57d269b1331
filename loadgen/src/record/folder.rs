//! Where a result is kept: `results/<date>-<name>/`, one folder a run, never one that holds another result.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::failure::Failure;

/// Where results go if nobody says otherwise, relative to the working directory.
pub const RESULTS: &str = "results";

/// The file that makes a folder a result.
pub const REPORT_FILE: &str = "report.json";

/// So many runs of one name a day are told apart.
const SAME_NAME_MAX: u32 = 10_000;

/// Makes the folder of a new result: `out` itself if it is given, else `results/<date>-<name>`, with `-2`, `-3` … if it is
/// there already. The date is that of `now` in UTC.
///
/// A folder named by `out` that already holds a result is a [`Failure::Usage`]; a folder that cannot be made is a
/// [`Failure::Failed`] with the system's reason.
pub fn create(out: Option<&Path>, name: &str, now: OffsetDateTime) -> Result<PathBuf, Failure> {
    match out {
        Some(folder) => create_named(folder),
        None => create_dated(Path::new(RESULTS), name, now),
    }
}

/// [`create`] without `out`, under another folder than [`RESULTS`].
pub fn create_dated(results: &Path, name: &str, now: OffsetDateTime) -> Result<PathBuf, Failure> {
    fs::create_dir_all(results).map_err(|error| failed(results, &error))?;
    let dated = format!("{}-{name}", date(now));
    for n in 1..=SAME_NAME_MAX {
        let folder = results.join(if n == 1 { dated.clone() } else { format!("{dated}-{n}") });
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&folder, &error)),
        }
    }
    Err(Failure::failed(format!(
        "{} and {SAME_NAME_MAX} more of this name are there already",
        results.join(dated).display()
    )))
}

fn create_named(folder: &Path) -> Result<PathBuf, Failure> {
    if folder.join(REPORT_FILE).exists() {
        let folder = folder.display();
        return Err(Failure::usage(format!(
            "--out {folder}: there is a result already; name another folder or remove it"
        )));
    }
    fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    Ok(folder.to_owned())
}

fn failed(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("the folder {} cannot be made: {error}", folder.display()))
}

/// `2026-11-20`, in UTC.
fn date(now: OffsetDateTime) -> String {
    let now = now.to_offset(time::UtcOffset::UTC);
    now.format(format_description!("[year]-[month]-[day]")).unwrap_or_else(|_| "undated".into())
}

/// RFC 3339 in UTC, to the second: what [`Report::created`](crate::record::Report) and
/// [`Repetition::begun`](crate::record::Repetition) hold.
pub fn timestamp(now: OffsetDateTime) -> String {
    let whole = now.to_offset(time::UtcOffset::UTC).replace_nanosecond(0).unwrap_or(now);
    whole.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const LATE: OffsetDateTime = datetime!(2026-11-20 23:30 -2);

    #[test]
    fn a_second_run_of_a_name_gets_a_number_and_the_date_is_utc() {
        let results = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..3)
            .map(|_| create_dated(results.path(), "chat", LATE).unwrap().file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["2026-11-21-chat", "2026-11-21-chat-2", "2026-11-21-chat-3"]);
    }

    #[test]
    fn a_named_folder_is_taken_unless_it_holds_a_result() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a/b");
        assert_eq!(create(Some(&folder), "chat", LATE), Ok(folder.clone()));
        assert_eq!(create(Some(&folder), "chat", LATE), Ok(folder.clone()));
        fs::write(folder.join(REPORT_FILE), "{}").unwrap();
        let refused = create(Some(&folder), "chat", LATE).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert!(refused.to_string().contains("--out"), "{refused}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named_with_the_reason() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let failure = create_dated(&file, "chat", LATE).unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.to_string().contains(&file.display().to_string()), "{failure}");
    }

    #[test]
    fn timestamps_are_utc_to_the_second() {
        assert_eq!(timestamp(LATE + time::Duration::milliseconds(250)), "2026-11-21T01:30:00Z");
    }
}
