//! The roles of the binary: one variant and one arm each.

use switchboard_mesh::{Context, Mounted, StartError};

use crate::config::Config;

/// What a process can serve to other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Conversation,
    Embeddings,
    Generation,
    Inference,
    Knowledge,
    Ledger,
    Policy,
    Reranking,
}

impl Role {
    /// Every role, in order of name.
    pub(crate) const ALL: [Self; 8] = [
        Self::Conversation,
        Self::Embeddings,
        Self::Generation,
        Self::Inference,
        Self::Knowledge,
        Self::Ledger,
        Self::Policy,
        Self::Reranking,
    ];

    /// The name in commands, config and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Conversation => switchboard_conversation::ROLE,
            Self::Embeddings => switchboard_embeddings::ROLE,
            Self::Generation => switchboard_generation::ROLE,
            Self::Inference => switchboard_model_server::ROLE,
            Self::Knowledge => switchboard_knowledge::ROLE,
            Self::Ledger => switchboard_ledger::ROLE,
            Self::Policy => switchboard_policy::ROLE,
            Self::Reranking => switchboard_reranking::ROLE,
        }
    }

    /// The role of this name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Starts the role in this process.
    ///
    /// # Errors
    /// The role's own reason.
    pub(crate) async fn start(self, config: &Config, ctx: &Context) -> Result<Mounted, StartError> {
        match self {
            Self::Conversation => switchboard_conversation::start(config.conversation.clone(), ctx).await,
            Self::Embeddings => switchboard_embeddings::start(config.embeddings.clone(), ctx).await,
            Self::Generation => switchboard_generation::start(config.generation.clone(), ctx).await,
            Self::Inference => switchboard_model_server::start(config.inference.clone(), ctx).await,
            Self::Knowledge => switchboard_knowledge::start(config.knowledge.clone(), ctx).await,
            Self::Ledger => switchboard_ledger::start(config.ledger.clone(), ctx).await,
            Self::Policy => switchboard_policy::start(config.policy.clone(), ctx).await,
            Self::Reranking => switchboard_reranking::start(config.reranking.clone(), ctx).await,
        }
    }
}

/// The names of all roles, for messages.
pub(crate) fn names() -> String {
    Role::ALL.map(Role::name).join(", ")
}
