//! What plugins may do: stream and chain, keep state, and use what they are granted.

mod grants;
mod state;
mod stream;
