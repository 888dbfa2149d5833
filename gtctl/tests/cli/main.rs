//! The real `gtctl` against a daemon that is not one: what it asks, what it prints, how it ends.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod common;
#[cfg(test)]
mod config;
#[cfg(test)]
mod daemon;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod sling;
#[cfg(test)]
mod standing;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod verbs;
