//! What plugins may do: stream and chain, and use what they are granted.

mod grants;
mod stream;
