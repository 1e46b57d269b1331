//! The server's metrics: Prometheus text, parsed. The names that the tests rely on stand here and nowhere else.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::{Http, eventually};

/// Open WebSocket connections, a gauge.
const CONNECTIONS: &str = "fanfare_connections";
/// Connections ended, by `cause`.
const CLOSES: &str = "fanfare_closed_total";
/// Connections answered or dropped before they became a WebSocket, by `cause`.
const REFUSALS: &str = "fanfare_refused_total";

/// All samples of one scrape.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Vec<Sample>);

/// One line.
#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Asks the server for its metrics.
    ///
    /// # Panics
    /// If the answer is no Prometheus text.
    #[must_use]
    #[track_caller]
    pub fn scrape(addr: SocketAddr) -> Self {
        let answer = Http::connect(addr).get("/metrics");
        assert_eq!(answer.status, 200);
        Self::parse(&answer.text())
    }

    /// Parses Prometheus text.
    ///
    /// # Panics
    /// If a line is none.
    #[must_use]
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(lines.map(|line| Sample::parse(line).unwrap_or_else(|| panic!("no sample: '{line}'"))).collect())
    }

    /// The sum of all samples of this name that carry all these labels; `None` if there is none.
    #[must_use]
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut matching = self.0.iter().filter(|sample| sample.name == name && sample.has(labels)).peekable();
        matching.peek()?;
        Some(matching.map(|sample| sample.value).sum())
    }

    /// As [`find`](Self::find), with 0 for a counter that has not appeared yet.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.find(name, labels).unwrap_or(0.0) as u64
    }

    /// Open WebSocket connections.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.count(CONNECTIONS, &[])
    }

    /// How many connections have ended for this cause.
    #[must_use]
    pub fn closes(&self, cause: &str) -> u64 {
        self.count(CLOSES, &[("cause", cause)])
    }

    /// How many connections were refused for this cause.
    #[must_use]
    pub fn refusals(&self, cause: &str) -> u64 {
        self.count(REFUSALS, &[("cause", cause)])
    }

    /// How many connections were refused.
    #[must_use]
    pub fn all_refusals(&self) -> u64 {
        self.count(REFUSALS, &[])
    }

    /// All names, each once.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.iter().map(|sample| sample.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Waits until the server has exactly this many WebSocket connections.
///
/// # Panics
/// If that does not come true within the deadline.
#[track_caller]
pub fn eventually_connections(addr: SocketAddr, expected: u64) {
    eventually(&format!("{expected} connections"), || Metrics::scrape(addr).connections() == expected);
}

impl Sample {
    fn parse(line: &str) -> Option<Self> {
        let (name, labels, rest) = match line.find('{') {
            Some(open) => {
                let (labels, rest) = parse_labels(&line[open + 1..])?;
                (&line[..open], labels, rest)
            }
            None => {
                let (name, rest) = line.split_once(' ')?;
                (name, BTreeMap::new(), rest)
            }
        };
        let value = match rest.split_whitespace().next()? {
            "+Inf" => f64::INFINITY,
            number => number.parse().ok()?,
        };
        Some(Self { name: name.to_owned(), labels, value })
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(*name).is_some_and(|own| own == value))
    }
}

/// Parses `a="b",c="d"} …` up to the brace; returns the labels and what follows.
fn parse_labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let (value, rest) = parse_quoted(rest)?;
        labels.insert(name.to_owned(), value);
        text = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// The text up to the closing quote, without its escapes, and what follows the quote.
fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn samples_are_summed_over_the_labels_not_asked_for() {
        let text = "# HELP a b\n# TYPE a counter\na{shard=\"0\",cause=\"x\"} 2\na{shard=\"1\",cause=\"x\"} 3\n\
                    a{shard=\"0\",cause=\"say \\\"}\\\"\"} 5\nb 1.5\nc_bucket{le=\"+Inf\"} +Inf\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.find("a", &[("cause", "x")]), Some(5.0));
        assert_eq!(metrics.find("a", &[("cause", "say \"}\"")]), Some(5.0));
        assert_eq!(metrics.find("a", &[]), Some(10.0));
        assert_eq!(metrics.find("b", &[]), Some(1.5));
        assert_eq!(metrics.find("d", &[]), None);
        assert_eq!(metrics.names(), ["a", "b", "c_bucket"]);
    }
}
