//! What agents work on and tell each other: hooks, work, convoys, mail, lifecycle requests, texts.

#[cfg(feature = "server")]
use jsonrpsee::core::RpcResult;
use jsonrpsee::proc_macros::rpc;

use crate::{Items, Nudge as Text, Reply, convoy, lifecycle, mail, nudge, params, work};

/// What agents have on their hooks.
#[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
#[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
#[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
pub trait Hook {
    /// What is on an agent's hook.
    #[method(name = "hook.show")]
    async fn show(&self, params: params::AgentRef) -> RpcResult<Reply<work::HookShown>>;

    /// Put work on an agent's hook.
    #[method(name = "hook.set", with_extensions)]
    async fn set(&self, params: params::HookSet) -> RpcResult<Reply<work::HookChange>>;

    /// Take the work off an agent's hook.
    #[method(name = "hook.clear", with_extensions)]
    async fn clear(&self, params: params::HookClear) -> RpcResult<Reply<work::HookChange>>;
}

/// Work items.
#[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
#[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
#[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
pub trait Work {
    /// Make a work item.
    #[method(name = "work.create", with_extensions)]
    async fn create(&self, params: params::WorkCreate) -> RpcResult<Reply<work::WorkChange>>;

    /// One work item.
    #[method(name = "work.show")]
    async fn show(&self, params: params::WorkRef) -> RpcResult<Reply<work::Work>>;

    /// Work items, the most urgent first.
    #[method(name = "work.list")]
    async fn list(&self, params: params::WorkList) -> RpcResult<Reply<Items<work::Work>>>;

    /// Close a work item.
    #[method(name = "work.close", with_extensions)]
    async fn close(&self, params: params::WorkClose) -> RpcResult<Reply<work::WorkChange>>;
}

/// Work that belongs together.
#[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
#[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
#[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
pub trait Convoy {
    /// Make a convoy.
    #[method(name = "convoy.create", with_extensions)]
    async fn create(&self, params: params::ConvoyCreate) -> RpcResult<Reply<convoy::ConvoyChange>>;

    /// Let a convoy track more work.
    #[method(name = "convoy.add", with_extensions)]
    async fn add(&self, params: params::ConvoyAdd) -> RpcResult<Reply<convoy::ConvoyChange>>;

    /// One convoy.
    #[method(name = "convoy.status")]
    async fn status(&self, params: params::ConvoyRef) -> RpcResult<Reply<convoy::Convoy>>;

    /// Convoys, the open ones first, then the newest.
    #[method(name = "convoy.list")]
    async fn list(&self, params: params::ConvoyList) -> RpcResult<Reply<Items<convoy::Convoy>>>;
}

/// Mail.
#[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
#[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
#[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
pub trait Mail {
    /// Write to an agent, or to the person.
    #[method(name = "mail.send", with_extensions)]
    async fn send(&self, params: params::MailSend) -> RpcResult<Reply<mail::MailChange>>;

    /// A mailbox, newest first.
    #[method(name = "mail.inbox", with_extensions)]
    async fn inbox(&self, params: params::MailInbox) -> RpcResult<Reply<mail::Inbox>>;

    /// One mail; it counts as read when its recipient asks.
    #[method(name = "mail.read", with_extensions)]
    async fn read(&self, params: params::MailRead) -> RpcResult<Reply<mail::MailChange>>;

    /// Put a mail aside.
    #[method(name = "mail.archive", with_extensions)]
    async fn archive(&self, params: params::MailArchive) -> RpcResult<Reply<mail::MailChange>>;
}

/// Lifecycle requests.
#[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
#[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
#[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
pub trait Lifecycle {
    /// Ask for the end, or a new start, of an agent.
    #[method(name = "lifecycle.request", with_extensions)]
    async fn ask(&self, params: params::LifecycleRequest) -> RpcResult<Reply<lifecycle::LifecycleChange>>;

    /// Lifecycle requests.
    #[method(name = "lifecycle.list")]
    async fn list(&self, params: params::LifecycleList) -> RpcResult<Reply<Items<lifecycle::Lifecycle>>>;
}

/// Text for agents, however it is asked for: one function types all of it.
#[cfg_attr(all(feature = "client", feature = "server"), rpc(client, server))]
#[cfg_attr(all(feature = "client", not(feature = "server")), rpc(client))]
#[cfg_attr(all(feature = "server", not(feature = "client")), rpc(server))]
pub trait Nudge {
    /// Text for an agent, typed when its input line is free.
    #[method(name = "nudge.send", with_extensions)]
    async fn send(&self, params: params::NudgeSend) -> RpcResult<Reply<nudge::NudgeChange>>;

    /// Texts for agents.
    #[method(name = "nudge.list")]
    async fn list(&self, params: params::NudgeList) -> RpcResult<Reply<Items<Text>>>;

    /// Take a text back.
    #[method(name = "nudge.cancel", with_extensions)]
    async fn cancel(&self, params: params::NudgeCancel) -> RpcResult<Reply<nudge::NudgeChange>>;

    /// Text for an agent that runs, typed and confirmed or not typed at all.
    #[method(name = "polecat.inject", with_extensions)]
    async fn inject(&self, params: params::PolecatInject) -> RpcResult<Reply<nudge::NudgeChange>>;

    /// A person's answer to an agent that waits for one.
    #[method(name = "agent.respond", with_extensions)]
    async fn respond(&self, params: params::AgentRespond) -> RpcResult<Reply<nudge::NudgeChange>>;
}
