//! `#[handler]` and `#[hooks]` of `gw-sdk`, which documents and re-exports them.
//!
//! Each keeps what it stands on as it is, so that tests can call it, and adds what makes a
//! component of the crate. What the SDK cannot use is a compile error at the place that is to be
//! changed.
#![forbid(unsafe_code)]

use proc_macro::TokenStream;

mod handler;
mod hooks;
mod options;

/// Makes a plugin of a function that answers requests.
#[proc_macro_attribute]
pub fn handler(options: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    with_item(handler::expand(options.into(), item.clone()), item)
}

/// Makes a plugin of an `impl` of `Hooks`.
#[proc_macro_attribute]
pub fn hooks(options: TokenStream, item: TokenStream) -> TokenStream {
    let item = proc_macro2::TokenStream::from(item);
    with_item(hooks::expand(options.into(), item.clone()), item)
}

/// The expansion, or the error beside the item as it was: whatever else names the item then does
/// not fail as well.
fn with_item(
    expanded: syn::Result<proc_macro2::TokenStream>,
    item: proc_macro2::TokenStream,
) -> TokenStream {
    let tokens = expanded.unwrap_or_else(|error| {
        let mut tokens = error.into_compile_error();
        tokens.extend(item);
        tokens
    });
    tokens.into()
}

#[cfg(test)]
mod tests;
