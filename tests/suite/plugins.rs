//! What plugins may do: stream and chain, keep state, and use what they are granted; and what the
//! first-party ones answer.

mod grants;
mod media;
mod state;
mod stream;
mod vision;
