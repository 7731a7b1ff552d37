"""docker-compose.yml keeps the compose specification, and what it promises about its services."""

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deployment import COMPOSE_FILE, ROOT, filled, in_order, services

SERVICES = services()
PROFILES = {"core", "observe", "demo"}
ENGINES = {"kafka", "clickhouse"}


def test_it_keeps_the_compose_specification() -> None:
    """By the specification's JSON Schema, as check-jsonschema ships it."""
    checked = subprocess.run(
        [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", COMPOSE_FILE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_docker_compose_reads_it() -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("the docker client has no compose plugin here")
    environ = {name: text for name, text in os.environ.items() if name != "COMPOSE_PROFILES"}
    for asked, wanted in (([], "core"), (["--profile", "observe"], "observe"), (["--profile", "demo"], "demo")):
        told = subprocess.run(
            ["docker", "compose", *asked, "config", "--services"],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        assert set(told.stdout.split()) == {name for name, s in SERVICES.items() if wanted in s.profiles}


def test_up_alone_starts_the_core() -> None:
    assert "COMPOSE_PROFILES=core" in (ROOT / ".env").read_text().splitlines()


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_profile_holds_all_that_its_services_need(profile: str) -> None:
    chosen = {name: service for name, service in SERVICES.items() if profile in service.profiles}
    missing = {name: set(s.needs) - chosen.keys() for name, s in chosen.items() if set(s.needs) - chosen.keys()}
    assert missing == {}
    assert len(in_order(chosen)) == len(chosen)
    assert chosen.keys() >= ENGINES


def test_there_is_no_other_profile() -> None:
    assert {profile for service in SERVICES.values() for profile in service.profiles} == PROFILES


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    says = SERVICES[name].says
    limits = says["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    assert float(limits["cpus"]) <= 2  # an engine refuses more than its machine has
    assert says["cap_drop"] == ["ALL"]
    assert says["security_opt"] == ["no-new-privileges:true"]
    assert says.get("read_only", False) or name in ENGINES
    assert says["logging"]["options"]["max-size"]
    assert all(str(port).startswith("127.0.0.1:") for port in says.get("ports", []))


@pytest.mark.parametrize("name", SERVICES)
def test_a_services_version_is_pinned(name: str) -> None:
    _, _, tag = str(SERVICES[name].says["image"]).partition(":")
    assert any(map(str.isdigit, tag)), tag
    assert "." in tag, tag


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_health_check_if_anybody_waits_for_it(name: str) -> None:
    service = SERVICES[name]
    waits = {s.needs[name] for s in SERVICES.values() if name in s.needs}
    if service.runs_once:
        assert waits == {"service_completed_successfully"}
        assert service.health == []
    else:
        assert waits <= {"service_healthy"}
        assert service.says["restart"] == "unless-stopped"
        assert service.health or name == "producer"


def test_one_service_builds_our_image_and_the_others_use_it() -> None:
    ours = [service for service in SERVICES.values() if service.is_ours]
    assert [service.name for service in ours if "build" in service.says] == ["topics"]
    assert len({service.says["image"] for service in ours}) == 1


def test_every_mounted_file_is_there() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.says.get("volumes", [])]
    sources = [ROOT / mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert [str(source) for source in sources if not source.exists()] == []
    assert all(mount.endswith(":ro") for mount in mounts if mount.startswith("."))


def test_every_named_volume_is_declared_and_used() -> None:
    declared = yaml.safe_load(COMPOSE_FILE.read_text())["volumes"].keys()
    mounts = [mount for service in SERVICES.values() for mount in service.says.get("volumes", [])]
    assert {mount.split(":")[0] for mount in mounts if not mount.startswith(".")} == declared


def test_passwords_can_be_replaced_and_nobody_shares_one() -> None:
    compose = yaml.safe_load(COMPOSE_FILE.read_text())["services"]
    own = {f"CLICKHOUSE_{who}_PASSWORD": f"secret of {who}" for who in ("ADMIN", "WRITER", "READER", "QUERY")}
    environments = {name: filled(says.get("environment", {}), own) for name, says in compose.items()}
    given = {(name, key): text for name, e in environments.items() for key, text in e.items() if "PASSWORD" in key}
    assert not [place for place, text in given.items() if "only-for-trials" in text]
    assert environments["recorder"]["INFERWATCH_CLICKHOUSE_PASSWORD"] == "secret of WRITER"
    told = {name: {text for (service, _), text in given.items() if service == name} for name in environments}
    assert told["clickhouse"] == {"secret of ADMIN"}
    assert told["recorder"] == {"secret of WRITER"}
    assert told["web"] == {"secret of QUERY"}
    assert told["tables"] == set(own.values())
    assert [name for name in told if "secret of ADMIN" in told[name]] == ["clickhouse", "tables"]


def test_kafkas_cluster_id_is_one() -> None:
    """22 characters of base64 for 16 bytes; a dash in front would read as an option."""
    cluster_id = SERVICES["kafka"].environment["CLUSTER_ID"]
    assert len(base64.urlsafe_b64decode(cluster_id + "==")) == 16
    assert not cluster_id.startswith("-")
