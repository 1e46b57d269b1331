//! Where a run is made, as far as it matters to its figures.
//!
//! What cannot be read is left empty: an unusual machine is no reason not to measure.

use std::collections::BTreeMap;
use std::fs;

use super::ServerProbe;
use crate::record::Environment;
use crate::scenario::Scenario;

/// Kernel settings that matter to very many connections, below `/proc/sys`.
const SYSCTLS: [&str; 17] = [
    "fs.file-max",
    "fs.nr_open",
    "kernel.sched_autogroup_enabled",
    "net.core.netdev_max_backlog",
    "net.core.rmem_default",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_default",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_wmem",
    "net.netfilter.nf_conntrack_max",
];

/// Notes that are the content of a file.
const NOTES: [(&str, &str); 7] = [
    ("clock source", "/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    ("CPU frequency governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    ("turbo off", "/sys/devices/system/cpu/intel_pstate/no_turbo"),
    ("hyper-threading", "/sys/devices/system/cpu/smt/active"),
    ("machine vendor", "/sys/class/dmi/id/sys_vendor"),
    ("machine", "/sys/class/dmi/id/product_name"),
    ("cgroup CPU limit", "/sys/fs/cgroup/cpu.max"),
];

/// Reads all of it, now: the load averages are those of the start.
pub fn read(scenario: &Scenario, server: Option<&ServerProbe>) -> Environment {
    let cpuinfo = text("/proc/cpuinfo");
    Environment {
        host: line("/proc/sys/kernel/hostname"),
        kernel: format!("{} {}", line("/proc/sys/kernel/ostype"), line("/proc/sys/kernel/osrelease")),
        cpu: cpu_model(&cpuinfo),
        cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u32),
        memory_bytes: memory_bytes(&text("/proc/meminfo")),
        files: rlimit::Resource::NOFILE.get().unwrap_or_default(),
        load_average: load_average(&text("/proc/loadavg")),
        sysctls: sysctls(),
        loadgen: VERSION.to_owned(),
        server_revision: scenario.server.revision.clone(),
        server_command: server.map(|server| server.command().to_vec()).unwrap_or_default(),
        notes: notes(&cpuinfo),
    }
}

/// The version of this program, with the revision it was built from if that was known.
pub const VERSION: &str = env!("LOADGEN_VERSION");

fn text(file: &str) -> String {
    fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// The words of a file with single spaces.
fn line(file: &str) -> String {
    text(file).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The value of `name : value`, the first one.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

fn cpu_model(cpuinfo: &str) -> String {
    let names = ["model name", "Model", "cpu", "CPU part"];
    names.iter().find_map(|name| value(cpuinfo, name)).unwrap_or("unknown").to_owned()
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kib = value(meminfo, "MemTotal").and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

fn load_average(loadavg: &str) -> [f64; 3] {
    let mut averages = loadavg.split_whitespace().map(|word| word.parse().unwrap_or(0.0));
    std::array::from_fn(|_| averages.next().unwrap_or(0.0))
}

fn sysctls() -> BTreeMap<String, String> {
    let read = |name: &&str| {
        let value = line(&format!("/proc/sys/{}", name.replace('.', "/")));
        (!value.is_empty()).then(|| ((*name).to_owned(), value))
    };
    SYSCTLS.iter().filter_map(read).collect()
}

fn notes(cpuinfo: &str) -> BTreeMap<String, String> {
    let read = |(name, file): &(&str, &str)| {
        let value = line(file);
        (!value.is_empty()).then(|| ((*name).to_owned(), value))
    };
    let mut notes: BTreeMap<String, String> = NOTES.iter().filter_map(read).collect();
    notes.insert("virtual machine".into(), if is_virtual(cpuinfo) { "yes" } else { "not seen" }.into());
    notes
}

/// Whether the CPU says that a hypervisor is below it.
fn is_virtual(cpuinfo: &str) -> bool {
    value(cpuinfo, "flags").is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_understood_and_missing_ones_are_no_harm() {
        let cpuinfo = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nflags\t\t: fpu hypervisor vme\n";
        assert_eq!((cpu_model(cpuinfo), is_virtual(cpuinfo)), ("A CPU @ 2 GHz".into(), true));
        assert_eq!((cpu_model(""), is_virtual("flags : fpu")), ("unknown".into(), false));
        assert_eq!((memory_bytes("MemTotal:  16 kB\nMemFree: 1 kB"), memory_bytes("")), (16_384, 0));
        assert_eq!((load_average("0.5 1.25 2 1/99 7"), load_average("")), ([0.5, 1.25, 2.0], [0.0; 3]));
    }

    #[test]
    fn this_machine_is_described() {
        let mut scenario = Scenario::default();
        scenario.server.revision = "server 1".into();
        let probe = ServerProbe::of(std::process::id()).unwrap();
        let environment = read(&scenario, Some(&probe));
        assert!(environment.kernel.starts_with("Linux "), "{}", environment.kernel);
        assert!(environment.cores > 0 && environment.memory_bytes > 0 && environment.files.0 > 0);
        assert!(environment.sysctls.contains_key("net.core.somaxconn") && !environment.host.is_empty());
        assert_eq!(environment.server_revision, "server 1");
        assert!(!environment.server_command.is_empty());
        assert!(environment.loadgen.starts_with(env!("CARGO_PKG_VERSION")));
    }
}
