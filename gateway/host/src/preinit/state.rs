//! What an instance is after `init`, asked through the functions that the snapshot tool adds.

use wasmtime::Store;
use wasmtime::component::{Instance, Lift, WasmList};
use wasmtime_wizer::ComponentInstanceState;

use crate::instance::State;

/// A component whose `init` has run.
pub(super) struct Initialised<'a> {
    pub(super) store: &'a mut Store<State>,
    pub(super) instance: Instance,
}

impl Initialised<'_> {
    /// The answer of `function`, an export of the export `of`.
    ///
    /// # Panics
    /// Where there is no such function, or it traps: the tool's trait has no room for an error.
    async fn ask<R: Lift + 'static>(&mut self, of: &str, function: &str) -> R {
        let (store, instance) = (&mut *self.store, &self.instance);
        let added = "the snapshot tool has added it";
        let of = instance.get_export_index(&mut *store, None, of).expect(added);
        let index = instance.get_export_index(&mut *store, Some(&of), function).expect(added);
        let function = instance.get_typed_func::<(), (R,)>(&mut *store, index).expect(added);
        function.call_async(store, ()).await.expect("it only reads").0
    }
}

impl ComponentInstanceState for Initialised<'_> {
    async fn call_func_ret_list_u8(
        &mut self,
        of: &str,
        function: &str,
        contents: impl FnOnce(&[u8]) + Send,
    ) {
        let bytes: WasmList<u8> = self.ask(of, function).await;
        contents(bytes.as_le_slice(&*self.store));
    }

    async fn call_func_ret_s32(&mut self, of: &str, function: &str) -> i32 {
        self.ask(of, function).await
    }

    async fn call_func_ret_s64(&mut self, of: &str, function: &str) -> i64 {
        self.ask(of, function).await
    }

    async fn call_func_ret_f32(&mut self, of: &str, function: &str) -> u32 {
        self.ask::<f32>(of, function).await.to_bits()
    }

    async fn call_func_ret_f64(&mut self, of: &str, function: &str) -> u64 {
        self.ask::<f64>(of, function).await.to_bits()
    }
}
