//! Times for people: how long ago, how long, and when. In JSON they stay RFC 3339 and milliseconds.

use std::time::Duration;

use gtd_proto::Timestamp;
use jiff::tz::TimeZone;

/// A length of time in one or two units: `0.4 ms`, `12 ms`, `3.2s`, `45s`, `12m`, `3h 20m`, `2d 4h`.
#[must_use]
pub fn span(length: Duration) -> String {
    let (ms, secs) = (length.as_secs_f64() * 1000.0, length.as_secs());
    let two = |big: u64, unit: &str, small: u64, sub: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit} {small}{sub}") }
    };
    match secs {
        0 if ms < 10.0 => format!("{ms:.1} ms"),
        0 => format!("{ms:.0} ms"),
        1..10 => format!("{:.1}s", length.as_secs_f64()),
        10..60 => format!("{secs}s"),
        60..3600 => format!("{}m", secs / 60),
        3600..86400 => two(secs / 3600, "h", secs % 3600 / 60, "m"),
        _ => two(secs / 86400, "d", secs % 86400 / 3600, "h"),
    }
}

/// How long ago an instant was, in whole units. One in the future, by a clock that was set back, is `now`.
#[must_use]
pub fn ago(at: Timestamp) -> String {
    let length = between(at, Timestamp::now());
    if length < Duration::from_secs(1) { "now".to_owned() } else { whole(length) }
}

/// How long it has been so, as it follows a word such as `up`: `0s`, `3h 20m`.
#[must_use]
pub fn age(since: Timestamp) -> String {
    whole(between(since, Timestamp::now()))
}

/// How long something has lasted: `for 3h 20m`, or `just now`.
#[must_use]
pub fn lasting(since: Timestamp) -> String {
    match ago(since) {
        now if now == "now" => "just now".to_owned(),
        length => format!("for {length}"),
    }
}

/// How long it is until an instant; one that has passed is `now`.
#[must_use]
pub fn until(at: Timestamp) -> String {
    let length = between(Timestamp::now(), at);
    if length < Duration::from_secs(1) { "now".to_owned() } else { format!("in {}", whole(length)) }
}

/// From one instant to a later one; zero when it is not later.
#[must_use]
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// A length of time in whole seconds: tenths make no sense for one that grows while it is read.
#[must_use]
pub fn whole(length: Duration) -> String {
    match length.as_secs() {
        secs @ 0..60 => format!("{secs}s"),
        secs => span(Duration::from_secs(secs)),
    }
}

/// How long ago an instant was, as it follows a word such as `last`: `3h 20m ago`, or `now`.
#[must_use]
pub fn relative(at: Timestamp) -> String {
    let ago = ago(at);
    if ago == "now" { ago } else { format!("{ago} ago") }
}

/// Date and time in this place, and how long ago: `2026-01-31 12:00:00 (3h 20m ago)`.
#[must_use]
pub fn full(at: Timestamp) -> String {
    let relative = relative(at);
    format!("{} ({relative})", at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S"))
}

/// Time of day in this place with milliseconds, and the date when it is not today.
#[must_use]
pub fn clock(at: Timestamp) -> String {
    let zone = TimeZone::system();
    let (then, now) = (at.to_zoned(zone.clone()), Timestamp::now().to_zoned(zone));
    let form = if then.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    format!("{}.{:03}", then.strftime(form), then.millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_at_most_two_units() {
        let cases = [
            (Duration::from_micros(420), "0.4 ms"),
            (Duration::from_millis(12), "12 ms"),
            (Duration::from_millis(3_240), "3.2s"),
            (Duration::from_secs(45), "45s"),
            (Duration::from_secs(12 * 60 + 50), "12m"),
            (Duration::from_secs(3 * 3600), "3h"),
            (Duration::from_secs(3 * 3600 + 20 * 60), "3h 20m"),
            (Duration::from_secs(2 * 86400 + 4 * 3600), "2d 4h"),
        ];
        for (length, text) in cases {
            assert_eq!(span(length), text);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_negative_ages() {
        let later = Timestamp::now() + Duration::from_secs(3600);
        assert_eq!(ago(later), "now");
        assert_eq!(until(Timestamp::UNIX_EPOCH), "now");
    }
}
