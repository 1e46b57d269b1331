//! How many workers there are, where they are, and their start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::failure::Failure;
use crate::fleet::member::ThreadLink;
use crate::fleet::message::{Report, Start};
use crate::fleet::process::ProcessLink;
use crate::fleet::{Fleet, Link};
use crate::load::{Role, Roster};
use crate::scenario::{PublishVia, Scenario};
use crate::target::Target;
use crate::worker::Plan;
use crate::worker::sys::monotonic_ns;

/// Open files that a process needs for other things than connections.
const SPARE_FILES: u64 = 100;

/// Reports under way; a worker that finds no room waits, and that shows as lag.
const REPORTS_MAX: usize = 1 << 14;

/// How long workers may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that can be known to be wrong before anything is started; gives the target and how many processes there are
/// to be.
pub(super) fn check(scenario: &Scenario) -> Result<(Target, u32), Failure> {
    let target = Target::of(scenario)?;
    check_publishers(scenario, &target)?;
    check_cores(&scenario.client.pin)?;
    let processes = processes(scenario, &Roster::new(scenario, 1), raise_open_files_limit())?;
    Ok((target, processes))
}

/// Starts all workers.
pub(super) fn start(scenario: &Scenario, program: &(PathBuf, Vec<String>)) -> Result<Fleet, Failure> {
    let (target, processes) = check(scenario)?;
    let threads = scenario.client.threads.max(1);
    let roster = Roster::new(scenario, processes.saturating_mul(threads));
    let run = run_number(scenario);
    let (reports, inbox) = bounded(REPORTS_MAX);
    let links = if processes == 1 {
        let target = Arc::new(target);
        let scenario = Arc::new(scenario.clone());
        let plan = |member| {
            let (scenario, target) = (Arc::clone(&scenario), Arc::clone(&target));
            Plan { scenario, target, roster: roster.clone(), run, member }
        };
        let start = |member| ThreadLink::start(plan(member), reports.clone()).map(Link::Thread);
        (0..threads).map(start).collect::<Result<Vec<_>, _>>()?
    } else {
        let start = |number| {
            let members = roster.members();
            let start = Start {
                scenario: scenario.clone(),
                run,
                members,
                first_member: number * threads,
                own_members: threads,
            };
            ProcessLink::start(program, number, &start, reports.clone()).map(Link::Process)
        };
        (0..processes).map(start).collect::<Result<Vec<_>, _>>()?
    };
    let published = vec![0; roster.streams() as usize];
    let fleet = Fleet { scenario: scenario.clone(), roster, links, reports: inbox, published, drives: 0 };
    wait_for_all(&fleet)?;
    Ok(fleet)
}

/// Starts the workers of a worker process.
pub(super) fn start_own(start: &Start, reports: &Sender<(u32, Report)>) -> Result<Vec<ThreadLink>, Failure> {
    raise_open_files_limit();
    let (scenario, target) = (Arc::new(start.scenario.clone()), Arc::new(Target::of(&start.scenario)?));
    let roster = Roster::new(&scenario, start.members);
    let own = start.first_member..start.first_member.saturating_add(start.own_members);
    let link = |member| {
        let (scenario, target) = (Arc::clone(&scenario), Arc::clone(&target));
        let plan = Plan { scenario, target, roster: roster.clone(), run: start.run, member };
        ThreadLink::start(plan, reports.clone())
    };
    own.map(link).collect()
}

fn wait_for_all(fleet: &Fleet) -> Result<(), Failure> {
    let inbox: &Receiver<(u32, Report)> = &fleet.reports;
    let mut started = 0;
    while started < fleet.roster.members() {
        match inbox.recv_timeout(START_TIMEOUT) {
            Ok((_, Report::Started)) => started += 1,
            Ok((_, Report::Failed(why))) => return Err(Failure::failed(why)),
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let (missing, of) = (fleet.roster.members() - started, fleet.roster.members());
                return Err(Failure::failed(format!("{missing} of {of} workers did not start within 30 s")));
            }
        }
    }
    Ok(())
}

/// A number that no other run has: markers of other runs are told apart by it.
fn run_number(scenario: &Scenario) -> u64 {
    let mixed = monotonic_ns() ^ u64::from(std::process::id()) << 40 ^ scenario.seed;
    mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Raises the soft limit of open files to the hard one; returns what it is now. Children inherit it.
fn raise_open_files_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or(1024)
}

/// How many processes there are to be.
fn processes(scenario: &Scenario, roster: &Roster, files: u64) -> Result<u32, Failure> {
    let publishers = roster.count(Role::Publisher);
    let others = roster.connections() - publishers;
    let room = files.saturating_sub(SPARE_FILES);
    let most = |processes: u64| publishers + others.div_ceil(processes);
    let wanted = u64::from(scenario.client.processes);
    if wanted > 0 && most(wanted) <= room {
        return Ok(scenario.client.processes);
    }
    let needed = (publishers < room || others == 0 && publishers <= room)
        .then(|| others.div_ceil((room - publishers).max(1)).max(1))
        .and_then(|needed| u32::try_from(needed).ok());
    let connections = roster.connections();
    match needed {
        None => Err(Failure::usage(format!(
            "connections.publishers is {publishers}, and one process has them all: the open-file limit is {files}"
        ))),
        Some(needed) if wanted > 0 => Err(Failure::usage(format!(
            "client.processes is {wanted}, too few for {connections} connections with an open-file limit of {files} each: \
             at least {needed}, or 0 to leave it to loadgen"
        ))),
        // Each has two pipes here.
        Some(needed) if needed > 1 && u64::from(needed) * 2 + SPARE_FILES > files => Err(Failure::usage(format!(
            "{connections} connections want {needed} processes, more than can be started: the open-file limit is {files}"
        ))),
        Some(needed) => Ok(needed),
    }
}

/// Some ways of speaking bind a publisher's connection to one topic.
fn check_publishers(scenario: &Scenario, target: &Target) -> Result<(), Failure> {
    let (publishers, topics) = (scenario.connections.publishers, u64::from(scenario.topics.count));
    let by_http = scenario.connections.publish_via == PublishVia::Http;
    if by_http || publishers == 0 || publishers >= topics || !target.publisher_is_bound() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "connections.publishers is {publishers} and topics.count {topics}, but a publisher's connection to this target \
         reaches only one topic: at least {topics} publishers are needed (or another preset, or publish_via = 'http')"
    )))
}

fn check_cores(pin: &[usize]) -> Result<(), Failure> {
    if pin.is_empty() {
        return Ok(());
    }
    let allowed: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    match pin.iter().find(|core| !allowed.contains(core)) {
        None => Ok(()),
        Some(core) => {
            let allowed: Vec<String> = allowed.iter().map(usize::to_string).collect();
            let allowed = allowed.join(", ");
            Err(Failure::usage(format!("client.pin names core {core}: this process may use {allowed}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scenario::{ClientSettings, Connections};

    fn scenario(publishers: u64, subscribers: u64, processes: u32) -> Scenario {
        let connections = Connections { publishers, subscribers, ..Connections::default() };
        Scenario {
            connections,
            client: ClientSettings { processes, ..ClientSettings::default() },
            ..Scenario::default()
        }
    }

    proptest! {
        #[test]
        fn processes_are_as_few_as_the_open_file_limit_allows(
            publishers in 0_u64..50,
            subscribers in 0_u64..100_000,
            files in 2_000_u64..20_000,
        ) {
            let scenario = scenario(publishers, subscribers, 0);
            let of = |members| Roster::new(&scenario, members);
            let needed = processes(&scenario, &of(1), files).unwrap();
            let most = |roster: &Roster| (0..roster.members()).map(|m| roster.of_member(m).count() as u64).max().unwrap();
            prop_assert!(most(&of(needed)) + SPARE_FILES <= files);
            prop_assert!(needed == 1 || most(&of(needed - 1)) + SPARE_FILES > files);
        }
    }

    #[test]
    fn too_few_processes_and_too_many_publishers_are_refused_by_name() {
        let of = |scenario: &Scenario, files| processes(scenario, &Roster::new(scenario, 1), files);
        let few = of(&scenario(1, 2_000, 1), 1_100).unwrap_err();
        assert!(few.to_string().contains("client.processes is 1") && few.to_string().contains("at least 3"), "{few}");
        let many = of(&scenario(2_000, 1, 0), 1_100).unwrap_err();
        assert!(many.to_string().contains("connections.publishers is 2000"), "{many}");
        assert_eq!(of(&scenario(1, 10, 2), 1_100), Ok(2));
        let crowd = of(&scenario(1, 5_000, 0), 110).unwrap_err();
        assert!(crowd.exit_code() == 2 && crowd.to_string().contains("want 556 processes"), "{crowd}");
    }

    #[test]
    fn a_core_that_is_not_there_is_named_with_those_that_are() {
        let failure = check_cores(&[1 << 20]).unwrap_err();
        assert!(failure.exit_code() == 2 && failure.to_string().contains("core 1048576"), "{failure}");
        assert_eq!(check_cores(&[]), Ok(()));
    }
}
