//! Modules by hand, byte by byte.

use super::{InspectError, LOCALS, ModuleUse, inspect};
use tepui_proto::control::ModuleKind;
use tepui_proto::limits;

const CORE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

fn name(text: &str) -> Vec<u8> {
    [leb(text.len()), text.as_bytes().to_vec()].concat()
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    [vec![id], leb(body.len()), body.to_vec()].concat()
}

/// One function type, `() -> ()`.
fn types() -> Vec<u8> {
    section(1, &[1, 0x60, 0, 0])
}

/// A program of one function with this body, after these sections of imports.
fn core(imports: &[u8], export: &str, index: u8, body: &[u8]) -> Vec<u8> {
    let exports = [vec![1], name(export), vec![0, index]].concat();
    let code = [vec![1], leb(body.len()), body.to_vec()].concat();
    [CORE, &types(), imports, &section(3, &[1, 0]), &section(7, &exports), &section(10, &code)]
        .concat()
}

fn core_import(module: &str, field: &str) -> Vec<u8> {
    section(2, &[vec![1], name(module), name(field), vec![0, 0]].concat())
}

/// A component that imports and exports empty instances by these names.
fn component(imports: &[&str], export: &str) -> Vec<u8> {
    let mut bytes = [COMPONENT.to_vec(), section(7, &[1, 0x42, 0])].concat();
    for import in imports {
        bytes.extend(section(10, &[vec![1, 0], name(import), vec![5, 0]].concat()));
    }
    bytes.extend(section(5, &[1, 1, 0]));
    let instance = u8::try_from(imports.len()).unwrap();
    bytes.extend(section(11, &[vec![1, 0], name(export), vec![5, instance, 0]].concat()));
    bytes
}

#[test]
fn programs_and_schedulers_are_told_apart() {
    assert_eq!(inspect(&core(&[], "_start", 0, &[0, 0x0b])), Ok(ModuleKind::CommandP1));
    let import = core_import("wasi_snapshot_preview1", "proc_exit");
    assert_eq!(inspect(&core(&import, "_start", 1, &[0, 0x0b])), Ok(ModuleKind::CommandP1));
    let command =
        component(&["wasi:cli/environment@0.2.3", "wasi:sockets/tcp@0.2.3"], "wasi:cli/run@0.2.3");
    assert_eq!(inspect(&command), Ok(ModuleKind::CommandP2));
    let scheduler = component(&["tepui:framework/state@0.1.0"], "tepui:framework/scheduler@0.1.0");
    assert_eq!(inspect(&scheduler), Ok(ModuleKind::Scheduler));
}

#[test]
fn what_is_not_wasm_is_refused() {
    for bytes in
        [&b""[..], b"\0as", b"\x7fELF", b"(module)", b"\0asm", b"\0asm\x09\0\0\0", &CORE[..7]]
    {
        assert_eq!(inspect(bytes).unwrap_err().code(), "module-invalid", "{bytes:?}");
    }
    let whole = core(&[], "_start", 0, &[0, 0x0b]);
    for cut in 8..whole.len() {
        assert!(inspect(&whole[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_library_is_not_a_program() {
    assert_eq!(inspect(CORE), Err(InspectError::NoStart));
    assert_eq!(inspect(&core(&[], "start", 0, &[0, 0x0b])), Err(InspectError::NoStart));
    assert_eq!(inspect(COMPONENT), Err(InspectError::NoEntry));
    assert_eq!(
        inspect(&component(&[], "wasi:http/incoming-handler@0.2.3")),
        Err(InspectError::NoEntry)
    );
}

#[test]
fn imports_outside_of_the_list_are_named() {
    let import = core_import("env", "system");
    let refused = inspect(&core(&import, "_start", 1, &[0, 0x0b])).unwrap_err();
    assert_eq!(
        (refused.code(), refused.to_string().contains("env::system")),
        ("module-imports", true)
    );
    for bad in [
        "wasi:http/outgoing-handler@0.2.3",
        "wasi:cli/stdin@0.3.0",
        "tepui:framework/state@0.1.0",
        "evil:a/b",
    ] {
        let refused = inspect(&component(&[bad], "wasi:cli/run@0.2.3"));
        assert_eq!(refused, Err(InspectError::Import(bad.to_owned())));
    }
    let refused =
        inspect(&component(&["wasi:sockets/tcp@0.2.3"], "tepui:framework/scheduler@0.1.0"));
    assert_eq!(refused.unwrap_err().code(), "module-imports");
}

#[test]
fn another_version_of_the_contract_is_refused_by_name() {
    let refused = inspect(&component(&[], "tepui:framework/scheduler@0.10.0")).unwrap_err();
    assert!(matches!(refused, InspectError::Version { .. }), "{refused}");
}

#[test]
fn too_much_of_anything_is_refused() {
    let large = vec![0; usize::try_from(limits::MODULE_BYTES).unwrap() + 1];
    assert_eq!(inspect(&large).unwrap_err().code(), "module-too-large");
    let locals = [vec![1], leb(usize::try_from(LOCALS).unwrap() + 1), vec![0x7f, 0x0b]].concat();
    let refused = inspect(&core(&[], "_start", 0, &locals)).unwrap_err();
    assert!(
        matches!(refused, InspectError::Count { what: "locals in one function", .. }),
        "{refused}"
    );
}

#[test]
fn a_module_of_the_wrong_kind_says_which_is_needed() {
    assert!(ModuleUse::Command.check(ModuleKind::CommandP1).is_ok());
    let refused = ModuleUse::Scheduler.check(ModuleKind::CommandP2).unwrap_err();
    assert_eq!(
        (refused.code(), refused.to_string()),
        ("module-invalid", "it is a command, and a scheduler is needed".to_owned())
    );
    assert!(ModuleUse::Command.check(ModuleKind::Scheduler).is_err());
}

/// 24 components, each with 990 instances of a component that exports 950 names: some 20 million exports in all, if one
/// works them out.
fn manifold() -> Vec<u8> {
    let exports: Vec<u8> = (0..950)
        .flat_map(|at| [vec![0], name(&format!("a{at}")), vec![5, 0, 0]].concat())
        .collect();
    let empty = section(5, &[1, 1, 0]);
    let inner = [COMPONENT, &empty, &section(11, &[leb(950), exports].concat())].concat();
    let instances: Vec<u8> = [leb(990), [0, 0, 0].repeat(990)].concat();
    let middle = [COMPONENT, &section(4, &inner), &section(5, &instances)].concat();
    let mut outer = COMPONENT.to_vec();
    for _ in 0..24 {
        outer.extend(section(4, &middle));
    }
    outer.extend(empty);
    let export = [vec![1, 0], name("wasi:cli/run@0.2.3"), vec![5, 0, 0]].concat();
    outer.extend(section(11, &export));
    outer
}

#[test]
fn what_a_look_costs_grows_with_the_bytes_and_with_nothing_else() {
    fn most_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
    let manifold = manifold();
    assert!(manifold.len() < 400_000, "{}", manifold.len());
    let before = most_bytes();
    assert_eq!(inspect(&manifold), Ok(ModuleKind::CommandP2));
    // Other tests run meanwhile, and hold some modules of 32 MiB.
    let grown = most_bytes() - before;
    assert!(grown < 200 << 20, "{grown} bytes");
}
