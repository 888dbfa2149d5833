//! Every end under its name.

use super::*;
use crate::agents::order::ProviderLimit;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn end(by: EndedBy, code: Option<i32>, signal: Option<i32>) -> Ending {
    Ending {
        pid: Some(7),
        started_at: None,
        ended_at: at(100),
        code,
        signal,
        by,
        exec_error: None,
        output: Vec::new(),
        usage: gtd_proto::exit::Usage::default(),
        client_activity: None,
        limit: None,
        oom: None,
        said: None,
        detected_by: "pidfd",
        detect_ms: None,
    }
}

fn limit(wait: Option<u64>) -> Option<ProviderLimit> {
    Some(ProviderLimit { line: "limit reached".to_owned(), wait: wait.map(Duration::from_secs) })
}

#[test]
fn each_end_has_its_name() {
    use EndedBy as By;
    use policy::Ending as E;
    let limited = |seconds| E::Limited(Duration::from_secs(seconds));
    let attended = |ago: i64, ending: Ending| Ending { client_activity: Some(at(100 - ago)), ..ending };
    let said = |wait, ending: Ending| Ending { limit: limit(wait), ..ending };
    let oom = |oom, ending: Ending| Ending { oom: Some(oom), ..ending };
    let clean = || end(By::Agent, Some(0), None);
    let killed = || end(By::Agent, None, Some(9));
    let cases = [
        (clean(), E::Clean, Cause::Clean),
        (end(By::Agent, Some(1), None), E::Failure, Cause::Crash),
        (killed(), E::Failure, Cause::Crash),
        (end(By::Unknown, None, Some(9)), E::Failure, Cause::Crash),
        (end(By::Unknown, None, None), E::Failure, Cause::Unknown),
        (end(By::Reboot, None, None), E::Reboot, Cause::Reboot),
        (end(By::Term, None, Some(15)), E::Failure, Cause::KilledByGtd),
        (end(By::Kill, None, Some(9)), E::Failure, Cause::KilledByGtd),
        // A person at the terminal: within ten seconds, code 0, and by the agent's own end only.
        (attended(0, clean()), E::Person, Cause::Person),
        (attended(10, clean()), E::Person, Cause::Person),
        (attended(11, clean()), E::Clean, Cause::Clean),
        (attended(-5, clean()), E::Clean, Cause::Clean),
        (attended(1, end(By::Agent, Some(1), None)), E::Failure, Cause::Crash),
        (attended(1, killed()), E::Failure, Cause::Crash),
        (attended(1, end(By::PaneClosed, Some(0), None)), E::Failure, Cause::PaneClosed),
        (attended(1, end(By::ServerGone, Some(0), None)), E::Failure, Cause::ServerGone),
        // Limits.
        (said(Some(60), end(By::Agent, Some(1), None)), limited(60), Cause::ProviderLimit),
        (said(None, clean()), limited(900), Cause::ProviderLimit),
        (said(Some(u64::MAX), clean()), limited(8 * 86_400), Cause::ProviderLimit),
        (attended(1, said(Some(60), clean())), E::Person, Cause::Person),
        (said(Some(60), end(By::PaneClosed, None, Some(1))), E::Failure, Cause::PaneClosed),
        // Memory.
        (oom(Oom::Certain, killed()), E::Failure, Cause::Oom),
        (oom(Oom::Likely, end(By::Unknown, None, Some(9))), E::Failure, Cause::Oom),
        (oom(Oom::Certain, end(By::Kill, None, Some(9))), E::Failure, Cause::KilledByGtd),
        (
            Ending { said: Some("I looked".to_owned()), ..end(By::Declared, None, None) },
            E::Failure,
            Cause::Unknown,
        ),
    ];
    for (ending, expected, cause) in cases {
        let named = name(&ending, false, false);
        assert_eq!((named.ending, named.cause), (expected, cause), "{ending:?}");
        let asked = name(&ending, true, true);
        assert_eq!((asked.ending, asked.cause), (E::Requested, Cause::Requested), "{ending:?}");
    }
}

#[test]
fn what_a_name_rests_on_is_said() {
    let evidence = |ending: &Ending| name(ending, false, false).evidence.unwrap();
    let clean = end(EndedBy::Agent, Some(0), None);
    let ending = Ending { client_activity: Some(at(96)), ..clean.clone() };
    assert_eq!(evidence(&ending), "a person was at its terminal, last active 4s before its end");
    assert_eq!(evidence(&Ending { limit: limit(None), ..clean }), "it said: limit reached");
    let killed = end(EndedBy::Agent, None, Some(9));
    assert!(evidence(&Ending { oom: Some(Oom::Likely), ..killed }).starts_with("likely: "));
    let declared =
        Ending { said: Some("by person: it is gone".to_owned()), ..end(EndedBy::Declared, None, None) };
    assert_eq!(evidence(&declared), "by person: it is gone");
    assert_eq!(name(&end(EndedBy::Agent, Some(1), None), false, false).evidence, None);
}

#[test]
fn what_stood_still_was_ended_from_outside_unless_it_ended_with_a_code() {
    let frozen = |by, code, signal| name(&end(by, code, signal), false, true).ending;
    for by in [EndedBy::Agent, EndedBy::Unknown, EndedBy::PaneClosed, EndedBy::ServerGone] {
        assert_eq!(frozen(by, None, Some(9)), policy::Ending::Frozen, "{by:?}");
    }
    // Somebody let it go on.
    assert_eq!(frozen(EndedBy::Agent, Some(1), None), policy::Ending::Failure);
    assert_eq!(frozen(EndedBy::Agent, Some(0), None), policy::Ending::Clean);
    assert_eq!(frozen(EndedBy::Reboot, None, None), policy::Ending::Reboot);
}
