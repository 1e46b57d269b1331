//! The flags themselves, by the headings of the help. What each means is said once, in the table of keys.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::values::{Burst, Ramp, Steps, header};
use crate::scenario::keys::help;
use crate::scenario::{Filler, PublishVia};
use crate::units::{Amount, Size, Span};

/// How often and how long.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Run")]
pub struct RunFlags {
    #[doc(hidden)]
    #[arg(long, value_name = "NAME", help = help("name"))]
    pub name: Option<String>,
    #[doc(hidden)]
    #[arg(long, value_name = "N", help = help("seed"))]
    pub seed: Option<u64>,
    #[doc(hidden)]
    #[arg(long, value_name = "N", help = help("repetitions"))]
    pub repetitions: Option<u32>,
    #[doc(hidden)]
    #[arg(long, value_name = "TIME", help = help("warmup"))]
    pub warmup: Option<Span>,
    #[doc(hidden)]
    #[arg(long, value_name = "TIME", help = help("duration"))]
    pub duration: Option<Span>,
    #[doc(hidden)]
    #[arg(long, value_name = "TIME", help = help("drain_timeout"))]
    pub drain_timeout: Option<Span>,
    /// All subscribers drop their connections so long after the beginning of the measured time, and come back; no storm
    /// if it is not given
    #[arg(long, value_name = "TIME")]
    pub reconnect_storm: Option<Span>,
}

/// Who is spoken to.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Target")]
pub struct TargetFlags {
    #[doc(hidden)]
    #[arg(long, value_name = "URL", help = help("target.url"))]
    pub url: Option<String>,
    #[doc(hidden)]
    #[arg(long, value_name = "NAME", help = format!("{}; loadgen scenario lists them", help("target.preset")))]
    pub preset: Option<String>,
    #[doc(hidden)]
    #[arg(long, value_name = "NAME", help = help("target.subprotocols"))]
    pub subprotocol: Vec<String>,
    #[doc(hidden)]
    #[arg(long, value_name = "'K: V'", value_parser = header, help = help("target.headers"))]
    pub header: Vec<(String, String)>,
    #[doc(hidden)]
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file", help = help("target.token"))]
    pub token: Option<String>,
    #[doc(hidden)]
    #[arg(long, value_name = "FILE", help = help("target.token_file"))]
    pub token_file: Option<PathBuf>,
    #[doc(hidden)]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    #[arg(help = help("target.deflate"))]
    pub deflate: Option<bool>,
    #[doc(hidden)]
    #[arg(long, value_name = "FILE", help = help("target.tls.ca"))]
    pub tls_ca: Option<PathBuf>,
    #[doc(hidden)]
    #[arg(long, value_name = "NAME", help = help("target.tls.server_name"))]
    pub tls_server_name: Option<String>,
    #[doc(hidden)]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    #[arg(help = help("target.tls.insecure"))]
    pub tls_insecure: Option<bool>,
    #[doc(hidden)]
    #[arg(long, value_name = "FILE", help = help("target.tls.certificate"))]
    pub tls_certificate: Option<PathBuf>,
    #[doc(hidden)]
    #[arg(long, value_name = "FILE", help = help("target.tls.key"))]
    pub tls_key: Option<PathBuf>,
    #[doc(hidden)]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    #[arg(help = help("target.tls.resumption"))]
    pub tls_resumption: Option<bool>,
}

/// Who is connected, and how connections come to be.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Connections")]
pub struct ConnectionFlags {
    #[doc(hidden)]
    #[arg(long, value_name = "N", help = help("connections.total"))]
    pub total: Option<u64>,
    #[doc(hidden)]
    #[arg(long, value_name = "N", help = help("connections.subscribers"))]
    pub subscribers: Option<u64>,
    #[doc(hidden)]
    #[arg(long, value_name = "N", help = help("connections.publishers"))]
    pub publishers: Option<u64>,
    #[doc(hidden)]
    #[arg(long, value_name = "WAY", help = help("connections.publish_via"))]
    pub publish_via: Option<PublishVia>,
    #[doc(hidden)]
    #[arg(long, value_name = "N|%", help = help("connections.idle"))]
    pub idle: Option<Amount>,
    #[doc(hidden)]
    #[arg(long, value_name = "N|%", help = help("connections.slow"))]
    pub slow: Option<Amount>,
    #[doc(hidden)]
    #[arg(long, value_name = "N|%", help = help("connections.stalled"))]
    pub stalled: Option<Amount>,
    #[doc(hidden)]
    #[arg(long, value_name = "N|%", help = help("connections.churning"))]
    pub churning: Option<Amount>,
    #[doc(hidden)]
    #[arg(long, value_name = "PER_S", help = help("connect.rate_per_s"))]
    pub connect_rate: Option<f64>,
    #[doc(hidden)]
    #[arg(long, value_name = "N", help = help("connect.concurrency"))]
    pub connect_concurrency: Option<u32>,
    #[doc(hidden)]
    #[arg(long, value_name = "TIME", help = help("connect.timeout"))]
    pub connect_timeout: Option<Span>,
    #[doc(hidden)]
    #[arg(long, value_name = "N|%", help = help("connect.failures_max"))]
    pub connect_failures_max: Option<Amount>,
    #[doc(hidden)]
    #[arg(long, value_name = "IP,IP", value_delimiter = ',', help = help("connect.bind"))]
    pub bind: Vec<IpAddr>,
}

/// What is published, and when.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Load")]
pub struct LoadFlags {
    #[doc(hidden)]
    #[arg(long, value_name = "PER_S", conflicts_with_all = ["steps", "ramp", "burst", "in_flight"], help = help("load.rate_per_s"))]
    pub rate: Option<f64>,
    /// Evenly spaced publications, whatever the file says
    #[arg(long, group = "shape")]
    pub constant: bool,
    /// Independent arrivals: exponentially distributed intervals around --rate
    #[arg(long, group = "shape")]
    pub poisson: bool,
    /// Rates one after the other, such as 100:5s,200:5s: publications a second and how long; takes the place of --duration
    #[arg(long, value_name = "RATE:TIME,…", group = "shape")]
    pub steps: Option<Steps>,
    /// A rate that changes linearly over the duration, such as 100..1000, in publications a second
    #[arg(long, value_name = "FROM..TO", group = "shape")]
    pub ramp: Option<Ramp>,
    /// Many publications at one moment, again and again, such as 64/100ms
    #[arg(long, value_name = "SIZE/EVERY", group = "shape")]
    pub burst: Option<Burst>,
    /// Closed loop: as fast as the server delivers, with at most N publications that not every subscriber has yet
    #[arg(long, value_name = "N", group = "shape")]
    pub in_flight: Option<u32>,
    #[doc(hidden)]
    #[arg(long, value_name = "BYTES", help = help("payload.bytes"))]
    pub payload_bytes: Option<Size>,
    #[doc(hidden)]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide_possible_values = true)]
    #[arg(help = help("payload.binary"))]
    pub binary: Option<bool>,
    #[doc(hidden)]
    #[arg(long, value_name = "KIND", help = help("payload.filler"))]
    pub filler: Option<Filler>,
    #[doc(hidden)]
    #[arg(long, value_name = "N", help = help("topics.count"))]
    pub topics: Option<u32>,
    #[doc(hidden)]
    #[arg(long, value_name = "NAME", help = help("topics.name"))]
    pub topic_name: Option<String>,
    /// Subscribers and publications are spread over topics by Zipf's law: topic n gets a share proportional to
    /// 1/(n+1)^EXPONENT; 1.0 if it is not given
    #[arg(long, value_name = "EXPONENT", num_args = 0..=1, require_equals = true, default_missing_value = "1.0")]
    pub zipf: Option<f64>,
}

/// The load generator and the server's process.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Load generator and server")]
pub struct ClientFlags {
    #[doc(hidden)]
    #[arg(long, value_name = "N", help = help("client.threads"))]
    pub threads: Option<u32>,
    #[doc(hidden)]
    #[arg(long, value_name = "N", help = help("client.processes"))]
    pub processes: Option<u32>,
    #[doc(hidden)]
    #[arg(long, value_name = "CORE,CORE", value_delimiter = ',', help = help("client.pin"))]
    pub pin: Vec<usize>,
    #[doc(hidden)]
    #[arg(long, value_name = "SHARE", help = help("client.cpu_share_max"))]
    pub cpu_share_max: Option<f64>,
    #[doc(hidden)]
    #[arg(long, value_name = "TIME", help = help("client.lag_max"))]
    pub lag_max: Option<Span>,
    #[doc(hidden)]
    #[arg(long, value_name = "TIME", help = help("client.late_after"))]
    pub late_after: Option<Span>,
    #[doc(hidden)]
    #[arg(long, value_name = "BYTES", help = help("client.message_bytes_max"))]
    pub message_bytes_max: Option<Size>,
    #[doc(hidden)]
    #[arg(long, value_name = "PID", help = help("server.pid"))]
    pub server_pid: Option<u32>,
    #[doc(hidden)]
    #[arg(long, value_name = "TEXT", help = help("server.revision"))]
    pub server_revision: Option<String>,
    #[doc(hidden)]
    #[arg(long, value_name = "CORE,CORE", value_delimiter = ',', help = help("server.cores"))]
    pub server_cores: Vec<usize>,
}
