//! What stands in the brackets of an attribute: nothing, or `init = FUNCTION`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned as _;
use syn::{Ident, Path, Token};

/// The options of `#[handler]` and `#[hooks]`.
#[derive(Default)]
pub(crate) struct Options {
    init: Option<Path>,
}

impl Options {
    /// The function that runs a component's `init`. It stands where the user's names are seen, so
    /// no name that this crate adds is one that a user would give.
    pub(crate) fn init(&self) -> TokenStream {
        let run = self.init.as_ref().map(|path| {
            quote_spanned! { path.span() => ::gw_sdk::serve::Prepared::finish(#path()); }
        });
        quote! { fn __gw_init() { #run } }
    }
}

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        const USAGE: &str = "the only option is the function to run once, when the plugin is \
                             built: `init = FUNCTION`";
        let mut options = Self::default();
        while !input.is_empty() {
            let name: Ident =
                input.parse().map_err(|error| syn::Error::new(error.span(), USAGE))?;
            if name != "init" {
                return Err(syn::Error::new(name.span(), USAGE));
            }
            if options.init.is_some() {
                let twice = "`init` is given twice; call one function from the other";
                return Err(syn::Error::new(name.span(), twice));
            }
            let function = input.parse::<Token![=]>().and_then(|_| input.parse());
            let function = function.map_err(|error| {
                syn::Error::new(error.span(), "name a function here: `init = FUNCTION`")
            })?;
            options.init = Some(function);
            if !input.is_empty() {
                input.parse::<Token![,]>().map_err(|error| syn::Error::new(error.span(), USAGE))?;
            }
        }
        Ok(options)
    }
}

/// An item that two plugins in one module both have, so that the compiler points at the second.
pub(crate) fn only_one(span: proc_macro2::Span) -> TokenStream {
    let name = Ident::new("a_crate_has_one_handler_or_hooks_and_no_more", span);
    quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, dead_code, reason = "it only has to be the only one")]
        enum #name {}
    }
}
