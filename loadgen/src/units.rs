//! Durations, sizes and shares as people write them: `10s`, `250ms`, `4KiB`, `5%`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration, written with its unit: `500us`, `250ms`, `10s`, `1m`, `2h`. Plain `0` needs none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub Duration);

/// A number of bytes, written `128`, `4KiB`, `1MiB`, or (powers of ten) `4kB`, `1MB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// So many of something, or a share of a total: `50`, `5%`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// So many.
    Count(u64),
    /// So many of a hundred, from 0 to 100.
    Percent(f64),
}

impl Default for Amount {
    fn default() -> Self {
        Self::Count(0)
    }
}

/// Splits `12.5ms` into the number and what stands behind it.
fn split(text: &str) -> Result<(f64, &str), String> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| format!("'{text}' does not begin with a number"))?;
    Ok((number, unit.trim()))
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text)?;
        let unit_s = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "" if number == 0.0 => 1.0,
            "" => return Err(format!("'{text}' has no unit: write for example '{text}s' or '{text}ms'")),
            _ => return Err(format!("'{text}' has an unknown unit: there are ns, us, ms, s, m, h")),
        };
        let seconds = Duration::try_from_secs_f64(number * unit_s);
        seconds.map(Self).map_err(|_| format!("'{text}' is longer than can be reckoned with"))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let units: [(&str, u128); 6] = [
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000),
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
        ];
        match units.iter().find(|(_, unit_ns)| ns >= *unit_ns && ns.is_multiple_of(*unit_ns)) {
            Some((unit, unit_ns)) => write!(f, "{}{unit}", ns / unit_ns),
            None => f.write_str("0s"),
        }
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text)?;
        let bytes = match unit {
            "" | "B" => 1_f64,
            "kB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "KiB" => 1024.0,
            "MiB" => 1_048_576.0,
            "GiB" => 1_073_741_824.0,
            _ => return Err(format!("'{text}' has an unknown unit: there are B, kB, MB, GB, KiB, MiB, GiB")),
        };
        let bytes = number * bytes;
        if bytes.fract() != 0.0 || bytes > 1e15 {
            return Err(format!("'{text}' is no whole number of bytes up to 1 PB"));
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0"),
            n if n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}"),
        }
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split(text)?;
        match unit {
            "%" if number <= 100.0 => Ok(Self::Percent(number)),
            "" if number.fract() == 0.0 && number < 1e12 => Ok(Self::Count(number as u64)),
            _ => Err(format!("'{text}' is neither a whole number nor a percentage from 0% to 100%")),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What a file may hold where a unit is expected: a bare number or a string.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a number or a string")]
enum Written {
    Number(serde_json::Number),
    Text(String),
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = match Written::deserialize(deserializer)? {
                    Written::Number(number) => number.to_string(),
                    Written::Text(text) => text,
                };
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(Span);
as_text!(Size);
as_text!(Amount);
