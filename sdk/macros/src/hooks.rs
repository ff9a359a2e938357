//! `#[hooks]`: an `impl` of `Hooks` becomes the hooks of a component.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::spanned::Spanned as _;
use syn::{ImplItem, ItemImpl, parse_quote};

use crate::options::{Options, only_one};

/// The world of hooks, and one that exports `init` as well: the host runs it of any component.
const WIT: &str = concat!(
    include_str!("../../wit/hooks.wit"),
    "world prepared-hooks { include hooks; export init: func(); }"
);

const USAGE: &str = "`#[hooks]` stands on an `impl` of the trait: `impl Hooks for NAME { .. }`";

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let options: Options = syn::parse2(options)?;
    let mut hooks: ItemImpl =
        syn::parse2(item).map_err(|error| syn::Error::new(error.span(), USAGE))?;
    let Some((_, path, _)) = &hooks.trait_ else {
        return Err(syn::Error::new(hooks.self_ty.span(), USAGE));
    };
    if path.segments.last().is_none_or(|segment| segment.ident != "Hooks") {
        return Err(syn::Error::new(path.span(), USAGE));
    }
    if !hooks.generics.params.is_empty() {
        let words = "hooks have no generic parameters: nobody could choose them; name the types";
        return Err(syn::Error::new(hooks.generics.span(), words));
    }
    let stateless = !hooks
        .items
        .iter()
        .any(|item| matches!(item, ImplItem::Type(associated) if associated.ident == "State"));
    if stateless {
        hooks.items.insert(0, parse_quote! { type State = (); });
    }
    let ty = &hooks.self_ty;
    let wit = Literal::string(WIT);
    let (init, only_one) = (options.init(), only_one(ty.span()));
    Ok(quote! {
        #hooks
        #only_one

        const _: () = {
            #init

            #[cfg(not(target_arch = "wasm32"))]
            const _: fn() = __gw_init;

            #[cfg(target_arch = "wasm32")]
            ::gw_sdk::export_hooks!(#ty, __gw_init, #wit);
        };
    })
}
