//! What every answer to a change ends with, in one place.

/// Structs of answers to requests that change something: each ends with what became of the request. `PlanStep`,
/// `Serialize`, `Deserialize` and `JsonSchema` are in scope where it is used.
macro_rules! answers {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $type:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub struct $name {
            $($(#[$fmeta])* pub $field: $type,)*
            /// It was so already; nothing was done.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub already: bool,
            /// Answered before the effect (`wait_ms` was 0): follow the events.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub accepted: bool,
            /// Nothing was done; `plan` says what would be.
            #[serde(default, skip_serializing_if = "std::ops::Not::not")]
            pub dry_run: bool,
            /// With `dry_run`: the steps.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            pub plan: Vec<PlanStep>,
        }
    )*};
}
pub(crate) use answers;
