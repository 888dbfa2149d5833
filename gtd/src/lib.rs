//! Skeleton.

pub mod rpc;
