//! Starting and ending the daemon of a town, and proving that it ended.
//!
//! The only place of this program that starts gtd or signals it. A process is signalled only by pidfd, after its
//! identity was verified.

pub mod identity;
pub mod lock;
pub mod managed;
pub mod sibling;
pub mod start;
pub mod stop;
