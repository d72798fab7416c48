"""The public surface: what each module offers under which path, what importing it costs, and who may import whom."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import retrysafe

SOURCE = Path(retrysafe.__file__).parent

# Every class and function that a public module defines or hands on. A name that comes or goes shows here.
SURFACE = {
    "retrysafe": {
        "AsyncBasePersistenceLayer",
        "AsyncMemoryPersistenceLayer",
        "BasePersistenceLayer",
        "BatchResult",
        "DataRecord",
        "DynamoDBPersistenceLayer",
        "Execution",
        "IdempotencyConfig",
        "IdempotentHookFunction",
        "ItemResult",
        "MemoryPersistenceLayer",
        "async_layer_from_url",
        "current_execution",
        "idempotent",
        "idempotent_batch",
        "idempotent_block",
        "idempotent_function",
        "layer_from_url",
    },
    "retrysafe.abandoned": {
        "complete_abandoned",
        "complete_abandoned_async",
        "release_abandoned",
        "release_abandoned_async",
    },
    "retrysafe.base": {"AsyncIdempotencyHandler", "IdempotencyHandler"},
    "retrysafe.batch": {"BatchResult", "ItemResult", "idempotent_batch"},
    "retrysafe.config": {"IdempotencyConfig"},
    "retrysafe.clock": {"Clock", "SystemClock"},
    "retrysafe.events": {
        "AnswerUnavailable",
        "Claimed",
        "Completed",
        "IdempotencyEvent",
        "LeaseLost",
        "Released",
        "Replayed",
        "TakenOver",
        "Waited",
    },
    "retrysafe.exceptions": {
        "IdempotencyAbandonedError",
        "IdempotencyAlreadyInProgressError",
        "BaseError",
        "IdempotencyBaseError",
        "IdempotencyConfigError",
        "IdempotencyInconsistentStateError",
        "IdempotencyInvalidStatusError",
        "IdempotencyItemAlreadyExistsError",
        "IdempotencyItemNotFoundError",
        "IdempotencyKeyError",
        "IdempotencyLeaseLostError",
        "IdempotencyModelTypeError",
        "IdempotencyNoSerializationModelError",
        "IdempotencyPersistenceConfigError",
        "IdempotencyPersistenceConnectionError",
        "IdempotencyPersistenceConsistencyError",
        "IdempotencyPersistenceLayerError",
        "IdempotencyResponseUnavailableError",
        "IdempotencyValidationError",
    },
    "retrysafe.hook": {"IdempotentHookFunction"},
    "retrysafe.idempotency": {"idempotent", "idempotent_function"},
    "retrysafe.jmespath_functions": {"PowertoolsFunctions"},
    "retrysafe.persistence": {"async_layer_from_url", "layer_from_url"},
    "retrysafe.persistence.base": {"AsyncBasePersistenceLayer", "BasePersistenceLayer"},
    "retrysafe.persistence.cache": {
        "AsyncCachePersistenceLayer",
        "CacheClientProtocol",
        "CacheConnection",
        "CacheFinding",
        "CachePersistenceLayer",
    },
    "retrysafe.persistence.datarecord": {"DataRecord"},
    "retrysafe.persistence.dynamodb": {
        "AsyncDynamoDBPersistenceLayer",
        "DynamoDBFinding",
        "DynamoDBPersistenceLayer",
    },
    "retrysafe.persistence.memory": {"AsyncMemoryPersistenceLayer", "MemoryPersistenceLayer"},
    "retrysafe.persistence.redis": {
        "AsyncRedisCachePersistenceLayer",
        "RedisCachePersistenceLayer",
        "RedisClientProtocol",
        "RedisConnection",
    },
    "retrysafe.persistence.sqlite": {"AsyncSQLitePersistenceLayer", "SQLitePersistenceLayer"},
    "retrysafe.persistence.threads": {"ThreadedPersistenceLayer"},
    "retrysafe.serialization.base": {"BaseIdempotencyModelSerializer", "BaseIdempotencySerializer"},
    "retrysafe.serialization.custom_dict": {"CustomDictSerializer"},
    "retrysafe.serialization.dataclass": {"DataclassSerializer"},
    "retrysafe.serialization.functions": {"get_actual_type"},
    "retrysafe.serialization.no_op": {"NoOpSerializer"},
    "retrysafe.serialization.pydantic": {"PydanticSerializer"},
    "retrysafe.testing": {
        "AsyncFailingLayer",
        "CrashPoint",
        "CrashPointsError",
        "CrashReport",
        "FailingLayer",
        "ManualClock",
        "PersistenceLayerContract",
        "crash_points",
        "idempotency_disabled",
    },
}

# Names of the package whose module is loaded when they are asked for.
LAZY = {"BatchResult", "DynamoDBPersistenceLayer", "ItemResult", "idempotent_batch"}

# Without an underscore, for the library's own modules; nobody is told of them.
INTERNAL = {
    "retrysafe.events": {"Listener", "level_of", "log", "logger", "logs"},
    "retrysafe.serialization.base": {"model_of", "serializer_for"},
}

# What is not to be loaded by `import retrysafe`.
HEAVY = {
    "aiobotocore",
    "asyncio",
    "boto3",
    "botocore",
    "dataclasses",
    "glide",
    "glide_sync",
    "inspect",
    "jmespath",
    "logging",
    "pydantic",
    "redis",
    "sqlite3",
    "valkey",
}


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SURFACE)
def test_each_public_module_offers_what_it_says(name):
    module = importlib.import_module(name)
    for member in SURFACE[name]:
        assert hasattr(module, member), f"{name} has no {member}"
    if hasattr(module, "__all__"):
        assert set(module.__all__) == SURFACE[name]
        assert list(module.__all__) == sorted(module.__all__)


@pytest.mark.parametrize("name", sorted(SURFACE.keys() - {"retrysafe"}))
def test_no_module_defines_a_public_name_in_passing(name):
    module = importlib.import_module(name)
    own = {
        member
        for member, value in vars(module).items()
        if not member.startswith("_") and getattr(value, "__module__", None) == name and hasattr(value, "__qualname__")
    }
    assert own - SURFACE[name] == INTERNAL.get(name, set())


def test_the_package_itself_has_no_other_public_names():
    public = {
        name
        for name, value in vars(retrysafe).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert public == set(retrysafe.__all__) - LAZY


# --- imports ------------------------------------------------------------------------------------------------------


def test_importing_the_package_loads_nothing_heavy_and_nothing_from_elsewhere():
    # -S: no site-packages, whose .pth files may load anything; so nothing but Python itself can be imported.
    program = (
        f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); before = set(sys.modules); import retrysafe; "
        "print(*set(sys.modules) - before)"
    )
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert loaded & HEAVY == set()
    assert {name for name in loaded if name not in sys.stdlib_module_names} == {"retrysafe"}


def test_importing_the_package_loads_no_layer_but_memory():
    program = f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); import retrysafe; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert {name for name in ran.stdout.split() if name.startswith("retrysafe.persistence.")} == {
        "retrysafe.persistence._forks",  # no layer
        "retrysafe.persistence._peers_methods",  # nor this
        "retrysafe.persistence.base",
        "retrysafe.persistence.datarecord",
        "retrysafe.persistence.memory",
    }


def test_the_cache_layer_loads_no_client_library_until_it_is_made():
    program = (
        f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); import retrysafe.persistence.redis; "
        "print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
    assert loaded & {"redis", "valkey", "glide", "glide_sync", "asyncio"} == set()
    assert {name for name in loaded if name not in sys.stdlib_module_names} == {"retrysafe", "__main__"}


def module_name(path):
    parts = ("retrysafe", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imported(name, *, types=False):
    """What a module imports, sooner or later; for type checkers too, where asked for."""
    found = set()

    def visit(node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test) and not types:
                continue
            if isinstance(child, ast.Import):
                found.update(each.name for each in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, "imports are absolute"
                for each in child.names:
                    whole = f"{child.module}.{each.name}"
                    found.add(whole if whole in FILES else child.module)
            visit(child)

    visit(ast.parse(FILES[name].read_text(encoding="utf-8")))
    return found


def reached(name):
    """All modules of ours that a module can bring about, at import or later."""
    seen, pending = set(), [name]
    while pending:
        pending += [each for each in imported(pending.pop()) & FILES.keys() if each not in seen]
        seen.update(pending)
    return seen


def test_imports_run_downwards():
    """No module imports, however indirectly, one that imports it: not later, and not for type checkers either.

    But for the record, which raises an error, and the errors, which are typed to carry a record.
    """
    carried = ("retrysafe.exceptions", "retrysafe.persistence.datarecord")
    graph = {
        name: {each for each in imported(name, types=True) & FILES.keys() if (name, each) != carried} - {"retrysafe"}
        for name in FILES
    }
    assert carried[1] in imported(carried[0], types=True)
    assert len(list(TopologicalSorter(graph).static_order())) >= len(FILES) - 1  # raises CycleError


def test_statements_import_each_layer_that_a_url_can_name():
    """What freezes a program follows them, and finds no module that is imported by a text."""
    layers = {f"retrysafe.persistence.{each}" for each in ("cache", "dynamodb", "memory", "sqlite")}
    assert layers <= imported("retrysafe.persistence")
    assert layers <= reached("retrysafe")


def test_the_protocol_knows_no_layer_and_no_library():
    known = {name for name in imported("retrysafe.protocol") if name.startswith("retrysafe.persistence")}
    assert known == {"retrysafe.persistence.datarecord"}
    behind = {name for name in reached("retrysafe.protocol") if name.startswith("retrysafe.persistence")}
    assert behind == known
    outside = {name.partition(".")[0] for name in imported("retrysafe.protocol")} - {"retrysafe"}
    assert outside <= set(sys.stdlib_module_names)
    assert outside & {"time", "random", "socket", "asyncio", "threading"} == set(), "no clock, no I/O, no driver"


def test_a_layer_knows_no_function_no_config_and_no_policy():
    allowed = {f"retrysafe.{each}" for each in ("clock", "exceptions", "inspecting", "locks", "queues", "warn")}
    for name in FILES:
        if name.startswith("retrysafe.persistence."):
            above = {each for each in reached(name) if not each.startswith("retrysafe.persistence")}
            assert above <= allowed, name


def test_only_their_own_modules_import_client_libraries():
    at_home = {
        "jmespath": {"retrysafe._keys.selection", "retrysafe.jmespath_functions"},
        "pydantic": {"retrysafe.exact.models", "retrysafe.serialization.pydantic"},
        "pydantic_core": {"retrysafe.exact.models", "retrysafe.serialization.pydantic"},
        "pytest": {"retrysafe.testing.pytest_plugin"},
    }
    of_python = {*sys.stdlib_module_names, "annotationlib"}  # which came with 3.14
    found = {}
    for name in FILES:
        for library in {each.partition(".")[0] for each in imported(name)}:
            if library != "retrysafe" and library not in of_python:
                found.setdefault(library, set()).add(name)
    assert found == at_home
