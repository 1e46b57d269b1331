//! Where a server listens, read off a line it prints.

/// The first address in `line`, as `ws://HOST:PORT` or `wss://HOST:PORT`.
///
/// Understood are URLs (`http://127.0.0.1:8080/`, `wss://localhost:8443`), and `HOST:PORT` with a numeric host or
/// `localhost`. An unspecified host (`0.0.0.0`, `[::]`, `*`) means this machine.
pub fn in_line(line: &str) -> Option<String> {
    with_scheme(line).or_else(|| bare(line))
}

fn with_scheme(line: &str) -> Option<String> {
    [("https://", "wss"), ("wss://", "wss"), ("http://", "ws"), ("ws://", "ws")]
        .iter()
        .filter_map(|(prefix, scheme)| {
            let at = line.find(prefix)?;
            let authority = authority(&line[at + prefix.len()..]);
            Some((at, format!("{scheme}://{}", connectable(&authority)?)))
        })
        .min_by_key(|(at, _)| *at)
        .map(|(_, url)| url)
}

/// `127.0.0.1:4567` somewhere in a sentence.
fn bare(line: &str) -> Option<String> {
    line.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '"' | '\'' | '(' | ')' | '=')).find_map(|word| {
        let word = authority(word);
        let (host, _) = word.rsplit_once(':')?;
        let is_host =
            host == "localhost" || host == "*" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        is_host.then(|| connectable(&word)).flatten().map(|authority| format!("ws://{authority}"))
    })
}

/// The characters that can be part of `HOST:PORT`.
fn authority(text: &str) -> String {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '[' | ']' | '-' | '*')));
    text[..end.unwrap_or(text.len())].trim_end_matches(['.', ':']).into()
}

/// With a port, and a host one can connect to.
fn connectable(authority: &str) -> Option<String> {
    let (host, port) = authority.rsplit_once(':')?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
    let host = match host {
        "" => return None,
        "0.0.0.0" | "*" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_found_in_any_sentence() {
        for (line, url) in [
            ("http://127.0.0.1:4567/", "ws://127.0.0.1:4567"),
            ("ws://127.0.0.1:4567/", "ws://127.0.0.1:4567"),
            ("Listening on https://localhost:8443.", "wss://localhost:8443"),
            ("listening 127.0.0.1:4567", "ws://127.0.0.1:4567"),
            ("\u{1b}[32mINFO\u{1b}[0m bound address=0.0.0.0:4567, workers=2", "ws://127.0.0.1:4567"),
            ("server on [::]:9000", "ws://[::1]:9000"),
            ("Started development server: http://localhost:3000", "ws://localhost:3000"),
        ] {
            assert_eq!(in_line(line).as_deref(), Some(url), "{line}");
        }
    }

    #[test]
    fn what_is_no_address_is_not_taken_for_one() {
        for line in [
            "",
            "127.0.0.1",
            "127.0.0.1:x",
            "127.0.0.1:99999",
            "127.0.0.1:0",
            "12:30:05 started",
            "note: see http://x.y/z",
        ] {
            assert_eq!(in_line(line), None, "{line}");
        }
    }
}
