//! What an agent's last lines say of a limit of its provider, and until when.
//!
//! Pure: lines, the instant of the end and a time zone in, a finding out. It must never find a limit in what an
//! agent merely talks about: the words must begin a line, and only the end of a screen is looked at.
//!
//! The wordings are those of Claude Code, Codex and Gemini as users have reported them: `Claude AI usage limit
//! reached|1760000000`, `5-hour limit reached ∙ resets 3pm`, `You've hit your session limit · resets 4:20am
//! (Europe/Warsaw)`, `You've hit your usage limit. … try again in 3 days 6 hours`, `… try again at Aug 8th, 2026
//! 12:30 PM`, `You have exhausted your capacity on this model. Your quota will reset after 48m20s.`

use std::time::Duration;

use gtd_proto::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use super::order::ProviderLimit;

/// Last lines that are looked at: a banner, and the prompt and hints that a screen shows below it.
const LINES: usize = 15;
/// Lines below the one with the limit that may tell until when: screens break sentences.
const BELOW: usize = 3;
/// Where in a line the words must have begun: behind a bullet, an error's prefix, a name.
const WITHIN: usize = 48;
/// An instant of a day that was this long ago is just over, and not tomorrow's.
const JUST_OVER: Duration = Duration::from_secs(10 * 60);
/// The shortest wait: a limit that is over in this moment has been over for a while when the agent is ready.
const SHORTEST: Duration = Duration::from_secs(5);
/// Longest line that is kept as evidence.
const EVIDENCE: usize = 200;

/// Words that tell of a limit, lower case.
const WORDS: [&str; 15] = [
    "usage limit reached",
    "session limit reached",
    "weekly limit reached",
    "hour limit reached",
    "you've hit your",
    "you're out of extra usage",
    "you have exhausted your capacity",
    "you have exhausted your daily quota",
    "quota exceeded",
    "you exceeded your current quota",
    "you have reached the quota limit",
    "resource_exhausted",
    "rate limit reached",
    "rate limit exceeded",
    "rate_limit_error",
];

/// Words behind which an instant of a day or a date stands.
const AT: [&str; 7] =
    ["resets at ", "reset at ", "try again at ", "resets on ", "reset on ", "resets ", "try again "];
/// Words behind which a span stands.
const IN: [&str; 9] = [
    "resets in ",
    "reset in ",
    "try again in ",
    "retry in ",
    "resets after ",
    "reset after ",
    "retry after ",
    "retrydelay: ",
    "available in ",
];

/// Finds a limit in the last lines of an agent that ended at an instant; `zone` is that of instants without one.
#[must_use]
pub fn recognise(lines: &[String], ended_at: Timestamp, zone: &TimeZone) -> Option<ProviderLimit> {
    let said: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
    let last = said.get(said.len().saturating_sub(LINES)..).unwrap_or_default();
    let (index, line) = last.iter().enumerate().rev().find(|(_, line)| tells(line))?;
    let text = last.iter().skip(index).take(1 + BELOW).map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let wait = until(&plain(&text), ended_at, zone);
    Some(ProviderLimit { line: line.trim().chars().take(EVIDENCE).collect(), wait })
}

fn plain(text: &str) -> String {
    text.to_lowercase().replace('\u{2019}', "'")
}

fn tells(line: &str) -> bool {
    let line = plain(line.trim());
    WORDS.iter().any(|word| {
        let found = line
            .find(word)
            .filter(|at| line.get(..*at).is_some_and(|before| before.chars().count() <= WITHIN));
        // Of what one can hit, only a limit is one.
        found.is_some_and(|at| {
            *word != "you've hit your"
                || line.get(at..).is_some_and(|rest| {
                    rest.split(['.', '\u{b7}', '|']).next().unwrap_or("").contains("limit")
                })
        })
    })
}

/// How long until the limit is lifted, when the text says so.
fn until(text: &str, ended_at: Timestamp, zone: &TimeZone) -> Option<Duration> {
    let wait = epoch(text, ended_at)
        .or_else(|| IN.iter().find_map(|word| span(behind(text, word)?)))
        .or_else(|| AT.iter().find_map(|word| instant(behind(text, word)?, ended_at, zone)))?;
    Some(wait.max(SHORTEST))
}

fn behind<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.find(word).and_then(|at| text.get(at + word.len()..))
}

fn from(ended_at: Timestamp, until: Timestamp) -> Duration {
    until.duration_since(ended_at).try_into().unwrap_or(Duration::ZERO)
}

/// `…|1760000000`, seconds or milliseconds since 1970.
fn epoch(text: &str, ended_at: Timestamp) -> Option<Duration> {
    let rest = behind(text, "limit reached|")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let number: i64 = digits.parse().ok()?;
    let until = match digits.len() {
        10 => Timestamp::from_second(number),
        13 => Timestamp::from_millisecond(number),
        _ => return None,
    };
    Some(from(ended_at, until.ok()?))
}

/// `2 hours 13 minutes`, `3 days, 6 hours`, `1h0m20s`, `1.2s`.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim_start();
    let mut total = 0.0;
    let mut any = false;
    while let Some((number, after)) = number(rest) {
        let word: String = after.trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
        let seconds = match word.as_str() {
            "ms" => 0.001,
            "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hrs" | "hour" | "hours" => 3_600.0,
            "d" | "day" | "days" => 86_400.0,
            "w" | "week" | "weeks" => 604_800.0,
            _ => break,
        };
        total += number * seconds;
        any = true;
        rest = after.trim_start().get(word.len()..)?.trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest);
    }
    any.then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

fn number(text: &str) -> Option<(f64, &str)> {
    let length = text.chars().take_while(|c| c.is_ascii_digit() || *c == '.').count();
    let number = text.get(..length)?.trim_end_matches('.').parse().ok()?;
    Some((number, text.get(length..)?))
}

/// `3pm`, `4:20am (europe/warsaw)`, `oct 13, 5pm`, `aug 8th, 2026 12:30 pm`, `feb 3 at 10am`, `15:04`.
fn instant(text: &str, ended_at: Timestamp, zone: &TimeZone) -> Option<Duration> {
    let zone = named_zone(text).unwrap_or_else(|| zone.clone());
    let now = ended_at.to_zoned(zone.clone());
    let (date, rest) = match date(text, now.date()) {
        Some((date, rest)) => (Some(date), rest),
        None => (None, text),
    };
    let time = time(rest);
    let at = match (date, time) {
        (None, None) => return None,
        (Some(date), time) => moment(date.to_datetime(time.unwrap_or_else(Time::midnight)), &zone)?,
        (None, Some(time)) => {
            let today = moment(now.date().to_datetime(time), &zone)?;
            if from(today, ended_at) <= JUST_OVER {
                today
            } else {
                moment(now.date().tomorrow().ok()?.to_datetime(time), &zone)?
            }
        }
    };
    Some(from(ended_at, at))
}

fn moment(at: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    at.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp())
}

/// A zone in brackets, by its name in the time zone database.
fn named_zone(text: &str) -> Option<TimeZone> {
    let name = text.split_once('(')?.1.split_once(')')?.0;
    // The database is looked up without regard to case.
    TimeZone::get(name.trim()).ok()
}

/// A month's name and a day, with or without a year; what follows it.
fn date(text: &str, today: Date) -> Option<(Date, &str)> {
    const MONTHS: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let text = text.trim_start();
    let month = MONTHS.iter().position(|name| text.starts_with(name))?;
    let rest = text.trim_start_matches(|c: char| c.is_ascii_alphabetic() || c == '.').trim_start();
    let (day, rest) = whole(rest)?;
    let rest = ["st", "nd", "rd", "th"].iter().find_map(|end| rest.strip_prefix(end)).unwrap_or(rest);
    let rest = rest.trim_start_matches([',', ' ']);
    let (year, rest) = match whole(rest) {
        Some((year, rest)) if (2_000..10_000).contains(&year) => (Some(year), rest),
        _ => (None, rest),
    };
    let rest = rest.trim_start_matches([',', ' ']);
    let rest = rest.strip_prefix("at ").unwrap_or(rest);
    let of = |year: i16| Date::new(year, i8::try_from(month + 1).ok()?, i8::try_from(day).ok()?).ok();
    let date = match year {
        Some(year) => of(i16::try_from(year).ok()?)?,
        // One that is long past is next year's.
        None => {
            let oldest = today.checked_sub(jiff::Span::new().days(7)).unwrap_or(today);
            of(today.year()).filter(|date| *date >= oldest).or_else(|| of(today.year() + 1))?
        }
    };
    Some((date, rest))
}

fn whole(text: &str) -> Option<(u32, &str)> {
    let length = text.chars().take_while(char::is_ascii_digit).count();
    Some((text.get(..length)?.parse().ok()?, text.get(length..)?))
}

fn time(text: &str) -> Option<Time> {
    let (hour, rest) = whole(text.trim_start())?;
    let (minute, rest) = match rest.strip_prefix(':').and_then(whole) {
        Some((minute, rest)) => (Some(minute), rest),
        None => (None, rest),
    };
    let rest = rest.trim_start();
    let hour = match (
        rest.starts_with("am") || rest.starts_with("a.m"),
        rest.starts_with("pm") || rest.starts_with("p.m"),
    ) {
        (true, _) if (1..=12).contains(&hour) => hour % 12,
        (_, true) if (1..=12).contains(&hour) => hour % 12 + 12,
        // A bare number is no instant of a day.
        (false, false) if minute.is_some() => hour,
        _ => return None,
    };
    Time::new(i8::try_from(hour).ok()?, i8::try_from(minute.unwrap_or(0)).ok()?, 0, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-03-10 12:00 in UTC, a Tuesday.
    const NOON: &str = "2026-03-10T12:00:00Z";

    fn found(line: &str) -> Option<ProviderLimit> {
        let lines: Vec<String> = line.lines().map(str::to_owned).collect();
        recognise(&lines, NOON.parse().unwrap(), &TimeZone::UTC)
    }

    fn hours(h: u64, m: u64, s: u64) -> Option<Duration> {
        Some(Duration::from_secs(h * 3_600 + m * 60 + s))
    }

    #[test]
    fn what_providers_say_is_recognised_with_its_time() {
        let cases = [
            ("Claude AI usage limit reached|1773151200", hours(2, 0, 0)),
            ("Claude AI usage limit reached|1773151200000", hours(2, 0, 0)),
            ("Claude usage limit reached. Your limit will reset at 3pm (UTC).", hours(3, 0, 0)),
            ("  ⎿  5-hour limit reached ∙ resets 3pm", hours(3, 0, 0)),
            ("You've hit your session limit · resets 4:20am (Europe/Warsaw)", hours(15, 20, 0)),
            ("You’ve hit your limit · resets 7:30pm", hours(7, 30, 0)),
            ("You've hit your weekly limit · resets Mar 13, 5pm", hours(77, 0, 0)),
            ("Weekly limit reached ∙ resets Mar 11 at 10am (America/New_York)", hours(26, 0, 0)),
            ("You're out of extra usage · resets 11:30am (Asia/Colombo)", hours(18, 0, 0)),
            (
                "■ You've hit your usage limit. Upgrade to Pro, or try again in 2 hours 13 minutes.",
                hours(2, 13, 0),
            ),
            (
                "You've hit your usage limit. To get more access now, try again in 3 days 6 hours 57 minutes.",
                hours(78, 57, 0),
            ),
            (
                "You've hit your usage limit. Visit https://x to purchase more credits or try again at 3:28 PM.",
                hours(3, 28, 0),
            ),
            ("You've hit your usage limit. Try again at Mar 12th, 2026 12:30 PM.", hours(48, 30, 0)),
            ("You've hit your usage limit. Try again Mar 18.", hours(7 * 24 + 12, 0, 0)),
            (
                "You have exhausted your capacity on this model. Your quota will reset after 42h1m20s.",
                hours(42, 1, 20),
            ),
            ("Error: RESOURCE_EXHAUSTED (code 429)", None),
            (
                "API Error: Rate limit reached for x in organization y. Please try again in 1.2s.",
                hours(0, 0, 5),
            ),
            ("You've hit your session limit\nresets 12:05am (UTC)\n> \n? for shortcuts", hours(12, 5, 0)),
            // Just over, and not tomorrow's.
            ("5-hour limit reached ∙ resets 11:55am", hours(0, 0, 5)),
            ("5-hour limit reached ∙ resets 11:45am", hours(23, 45, 0)),
            // A date of next year, and a zone that nobody knows.
            ("Weekly limit reached ∙ resets Jan 2, 12pm (Middle/Earth)", hours(298 * 24, 0, 0)),
            ("You've hit your usage limit.", None),
        ];
        for (line, wait) in cases {
            let limit = found(line).unwrap_or_else(|| panic!("not recognised: {line}"));
            assert_eq!(limit.wait, wait, "{line}");
            assert!(line.contains(limit.line.as_str()), "{line}: {}", limit.line);
        }
    }

    #[test]
    fn talk_about_limits_is_none() {
        for line in [
            "",
            "all done",
            "I have added a test for the case in which the server says that its usage limit reached 3pm",
            "The retry logic in src/client/requests/mod.rs is about quota exceeded errors",
            "You've hit your stride · resets 3pm",
            "You've hit your head. There is a limit",
            "Approaching usage limit · resets at 3pm",
            "error: open file limit reached",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
        // Far above the end, it is history.
        let old = format!("You've hit your limit · resets 3pm\n{}", "line\n".repeat(20));
        assert_eq!(found(&old), None);
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in
            ["", "x", "3", "25pm", "13pm", "99:99", "oct", "oct 99", "feb 30 5pm", "()", "3 fortnights"]
        {
            let line = format!("You've hit your limit · resets {text}");
            assert_eq!(found(&line).unwrap().wait, None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_behind_it_nothing_breaks(text in "\\PC{0,60}", second in 0i64..4_000_000_000) {
            let at = Timestamp::from_second(second).unwrap();
            for word in WORDS.iter().chain(&AT).chain(&IN) {
                let lines = [format!("You've hit your limit {word}{text}")];
                let limit = recognise(&lines, at, &TimeZone::UTC);
                prop_assert!(limit.is_none_or(|limit| limit.wait.is_none_or(|wait| wait >= SHORTEST)));
            }
        }
    }
}
