//! The commands, one file each: `Args` are its flags, `run` does the work.

mod bench;
mod build;
mod dev;
mod doctor;
mod infer;
mod keys;
mod model;
mod new;
mod plan;
mod push;
mod rollback;
mod run;
mod serve;
mod status;

/// What the user asked for.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    New(new::Args),
    Build(build::Args),
    Dev(dev::Args),
    Serve(serve::Args),
    Keys(keys::Args),
    Push(push::Args),
    Status(status::Args),
    Rollback(rollback::Args),
    Model(model::Args),
    Run(run::Args),
    Infer(infer::Args),
    Plan(plan::Args),
    // Boxed, because its flags take several times the room of the others.
    Bench(Box<bench::Args>),
    Doctor(doctor::Args),
}

/// Does what the user asked for.
pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::New(args) => new::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Dev(args) => dev::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Keys(args) => keys::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Rollback(args) => rollback::run(&args),
        Command::Model(args) => model::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Infer(args) => infer::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    }
}
