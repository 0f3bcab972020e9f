//! The official SDKs, with the README's recipes.
