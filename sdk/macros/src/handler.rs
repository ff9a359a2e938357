//! `#[handler]`: a function becomes the `wasi:http` handler of a component.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned as _;
use syn::{FnArg, ItemFn, ReturnType, Signature, Type};

use crate::options::{Options, only_one};

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let options: Options = syn::parse2(options)?;
    let function: ItemFn = syn::parse2(item).map_err(|error| {
        let words = "`#[handler]` stands on a function, such as \
                     `fn answer(Json(input): Json<Input>) -> Result<Json<Answer>, Error> { .. }`";
        syn::Error::new(error.span(), words)
    })?;
    check(&function.sig)?;
    let types = argument_types(&function.sig)?;
    let respond = respond(&function.sig, &types);
    let (init, only_one) = (options.init(), only_one(function.sig.ident.span()));
    Ok(quote! {
        #function
        #only_one

        const _: () = {
            #init
            #respond

            #[cfg(not(target_arch = "wasm32"))]
            const _: (fn(), fn(::gw_sdk::Request) -> ::gw_sdk::Response) =
                (__gw_init, __gw_respond);

            #[cfg(target_arch = "wasm32")]
            const _: () = {
                use ::gw_sdk::bindings::exports::wasi::http::incoming_handler as __gw_export;

                struct __GwComponent;

                impl ::gw_sdk::bindings::Guest for __GwComponent {
                    fn init() {
                        ::gw_sdk::serve::init(__gw_init);
                    }
                }

                impl __gw_export::Guest for __GwComponent {
                    fn handle(
                        request: __gw_export::IncomingRequest,
                        out: __gw_export::ResponseOutparam,
                    ) {
                        ::gw_sdk::serve::handle(__gw_init, __gw_respond, &request, out);
                    }
                }

                ::gw_sdk::bindings::export_component!(
                    __GwComponent with_types_in ::gw_sdk::bindings
                );
            };
        };
    })
}

/// What makes a signature unusable, said at the word that is to go.
fn check(signature: &Signature) -> syn::Result<()> {
    let error = |span: proc_macro2::Span, words: &str| Err(syn::Error::new(span, words));
    if let Some(word) = &signature.asyncness {
        return error(
            word.span(),
            "a handler is not `async`: an instance answers one request, and calls to the host \
             wait; remove `async`",
        );
    }
    if !signature.generics.params.is_empty() {
        return error(
            signature.generics.span(),
            "a handler has no generic parameters: nobody could choose them; name the types",
        );
    }
    if let Some(word) = &signature.unsafety {
        return error(word.span(), "a handler is not `unsafe`; remove `unsafe`");
    }
    if let Some(word) = &signature.abi {
        return error(word.span(), "a handler is a plain Rust function; remove `extern`");
    }
    Ok(())
}

fn argument_types(signature: &Signature) -> syn::Result<Vec<&Type>> {
    let types = signature.inputs.iter().map(|input| match input {
        FnArg::Receiver(receiver) => Err(syn::Error::new(
            receiver.span(),
            "a handler has no `self`: it is a function outside of any `impl`",
        )),
        FnArg::Typed(argument) => match &*argument.ty {
            Type::Reference(reference) => Err(syn::Error::new(
                reference.span(),
                "a handler owns its arguments; take the value, without `&`",
            )),
            ty => Ok(ty),
        },
    });
    types.collect()
}

/// From a request to a response. The last argument may take the request's body; those before it
/// get copies.
fn respond(signature: &Signature, types: &[&Type]) -> TokenStream {
    let name = &signature.ident;
    let names: Vec<_> = (0..types.len()).map(|index| format_ident!("argument_{index}")).collect();
    let arguments = types.iter().zip(&names).enumerate().map(|(index, (ty, name))| {
        let last = index + 1 == types.len();
        let from = match last {
            true => quote_spanned! { ty.span() =>
                <#ty as ::gw_sdk::FromRequest>::from_owned_request(request)
            },
            false => quote_spanned! { ty.span() =>
                <#ty as ::gw_sdk::FromRequest>::from_request(&request)
            },
        };
        quote! {
            let #name = match #from {
                ::core::result::Result::Ok(value) => value,
                ::core::result::Result::Err(error) => return ::gw_sdk::Response::from(error),
            };
        }
    });
    // Named by its type, so that an answer that is none is an error there.
    let into_response = match &signature.output {
        ReturnType::Type(_, ty) if !matches!(**ty, Type::ImplTrait(_)) => {
            quote_spanned! { ty.span() => <#ty as ::gw_sdk::IntoResponse>::into_response }
        }
        _ => quote! { ::gw_sdk::IntoResponse::into_response },
    };
    quote! {
        #[allow(unused_variables, reason = "a handler may look at nothing of its request")]
        fn __gw_respond(request: ::gw_sdk::Request) -> ::gw_sdk::Response {
            #(#arguments)*
            #into_response(#name(#(#names),*))
        }
    }
}
