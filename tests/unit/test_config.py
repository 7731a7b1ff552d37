"""Settings: one source over another, every mistake at once, no secret in sight."""

import json
from pathlib import Path

import pytest

from pipeline.config import PREFIX, ConfigError, Settings, load, to_environ

SECRET = "hunter2, hunter2, hunter2, hunter2"
SECRETS = [
    "kafka_sasl_password",
    "clickhouse_password",
    "clickhouse_admin_password",
    "clickhouse_reader_password",
    "clickhouse_query_password",
    "notify_recipients",
    "watchdog_recipients",
    "smtp_password",
    "pagerduty_key",
    "webhook_secret",
    "web_api_key",
    "web_session_key",
    "oidc_client_secret",
]


def mistakes(environ: dict[str, str], overrides: dict[str, object] | None = None) -> list[str]:
    """The lines of the error, in order."""
    with pytest.raises(ConfigError) as error:
        load(environ, overrides)
    return str(error.value).splitlines()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "inferwatch.toml"


def test_without_anything_given_the_defaults_hold() -> None:
    assert load({}) == load({"PATH": "/bin", "INFERWATCHER": "x"})
    assert load({}).kafka_bootstrap == "127.0.0.1:9092"


def test_all_mistakes_are_reported_together_each_with_the_name_it_was_given_under(file: Path) -> None:
    file.write_text("poll_ms = 0\nweb_prot = 1\n")
    lines = mistakes(
        {
            "INFERWATCH_CONFIG_FILE": str(file),
            "INFERWATCH_LATENESS_MS": "soon",
            "INFERWATCH_KAFKA_BOOTSTRAPS": "kafka:9092",
            "INFERWATCH_CLICKHOUSE_URL": "clickhouse:8123",
            "INFERWATCH_KAFKA_SASL_PASSWORD_FILE": str(file.parent / "absent"),
        },
        {"web_port": 0, "no_such": 1},
    )
    assert len(lines) == 8
    text = "\n".join(lines)
    for start in (
        f"{file}: poll_ms: ",
        f"{file}: web_prot: no such setting",
        "INFERWATCH_LATENESS_MS: ",
        "INFERWATCH_KAFKA_BOOTSTRAPS: no such setting",
        "INFERWATCH_CLICKHOUSE_URL: ",
        "INFERWATCH_KAFKA_SASL_PASSWORD_FILE: ",
        "web_port: ",
        "no_such: no such setting",
    ):
        assert sum(line.startswith(start) for line in lines) == 1, f"{start!r} not in\n{text}"


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI"),
        ("TOPIC_PREFIX", "a b"),
        ("TOPIC_REPLICATION", "0"),
        ("SESSION_TIMEOUT_MS", "10"),
        ("CLICKHOUSE_URL", "tcp://127.0.0.1:9000"),
        ("CLICKHOUSE_URL", "http://"),
        ("CLICKHOUSE_URL", "http://user:hunter2@127.0.0.1:8123"),
        ("CLICKHOUSE_URL", "http://127.0.0.1:81234"),
        ("CLICKHOUSE_DATABASE", "drop table"),
        ("CLICKHOUSE_INSERT_TIMEOUT_S", "0"),
        ("EVENT_AGE_DAYS_MAX", "366"),
        ("CUT_ROWS_MAX", "1.5"),
        ("WEB_PORT", "65536"),
        ("WEB_SESSION_KEY", "hunter2"),
        ("WEB_PROXIES", "10.0.0.1/8"),
        ("OIDC_ROLES", "staff=acme:king"),
        ("OIDC_ROLES", "staff"),
        ("OIDC_ISSUER", "http://id.example.com"),
        ("OIDC_ISSUER", "https://id.example.com"),  # and no client, no roles, no address of our own
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_value_out_of_its_bounds_is_a_mistake(variable: str, text: str) -> None:
    [line] = mistakes({PREFIX + variable: text})
    assert line.startswith(PREFIX + variable + ": ")
    assert "hunter2" not in line


def test_the_environment_is_over_the_file_and_overrides_are_over_both(file: Path) -> None:
    file.write_text('workspace = "file"\ngroup_prefix = "file"\ntopic_prefix = "file"\nweb_port = 1\n')
    settings = load(
        {
            "INFERWATCH_CONFIG_FILE": str(file),
            "INFERWATCH_GROUP_PREFIX": "environment",
            "INFERWATCH_TOPIC_PREFIX": "environment",
        },
        {"topic_prefix": "override"},
    )
    given = (settings.workspace, settings.group_prefix, settings.topic_prefix, settings.web_port)
    assert given == ("file", "environment", "override", 1)


def test_an_empty_text_is_not_given_wherever_it_stands(file: Path) -> None:
    file.write_text('clickhouse_user = ""\nkafka_ssl_cafile = ""\ngroup_prefix = "file"\nweb_host = "file"\n')
    settings = load(
        {"INFERWATCH_CONFIG_FILE": str(file), "INFERWATCH_GROUP_PREFIX": "", "INFERWATCH_WEB_PORT": ""},
        {"web_host": ""},
    )
    assert settings == load({}, {"group_prefix": "file"})


@pytest.mark.parametrize("content", [b"web_port = ", b"\xff", b"web_port = 1\nweb_port = 2\n"])
def test_a_file_that_is_not_toml_is_a_mistake(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    [line] = mistakes({"INFERWATCH_CONFIG_FILE": str(file)})
    assert line.startswith("INFERWATCH_CONFIG_FILE: ")


def test_a_missing_file_is_a_mistake_beside_the_others(file: Path) -> None:
    lines = mistakes({"INFERWATCH_CONFIG_FILE": str(file), "INFERWATCH_WEB_PORT": "x"})
    assert [line.split(":")[0] for line in lines] == ["INFERWATCH_CONFIG_FILE", "INFERWATCH_WEB_PORT"]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_may_come_from_a_file(tmp_path: Path, file: Path, secret: str) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    from_variable = load({f"{PREFIX}{secret.upper()}_FILE": str(tmp_path / "secret")})
    file.write_text(f'{secret}_file = "{tmp_path / "secret"}"\n')
    from_toml = load({"INFERWATCH_CONFIG_FILE": str(file)})
    assert getattr(from_variable, secret).get_secret_value() == SECRET
    assert from_toml == from_variable


def test_a_secret_of_the_environment_is_over_a_secret_file_of_the_file(tmp_path: Path, file: Path) -> None:
    (tmp_path / "secret").write_text("from the file")
    file.write_text(f'clickhouse_password_file = "{tmp_path / "secret"}"\n')
    settings = load({"INFERWATCH_CONFIG_FILE": str(file), "INFERWATCH_CLICKHOUSE_PASSWORD": SECRET})
    assert settings.clickhouse_password.get_secret_value() == SECRET


def test_a_secret_given_twice_in_one_place_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    [line] = mistakes(
        {
            "INFERWATCH_CLICKHOUSE_PASSWORD": SECRET,
            "INFERWATCH_CLICKHOUSE_PASSWORD_FILE": str(tmp_path / "secret"),
        }
    )
    assert line == "INFERWATCH_CLICKHOUSE_PASSWORD_FILE: INFERWATCH_CLICKHOUSE_PASSWORD is given too"


def test_what_is_not_a_secret_has_no_file(file: Path) -> None:
    assert mistakes({"INFERWATCH_WORKSPACE_FILE": str(file)}) == ["INFERWATCH_WORKSPACE_FILE: no such setting"]


def test_no_secret_is_ever_shown() -> None:
    settings = load({PREFIX + secret.upper(): SECRET for secret in SECRETS})
    shown = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
    assert [text for text in shown if SECRET in text] == []


def test_no_secret_is_shown_among_mistakes() -> None:
    environ = {PREFIX + secret.upper(): SECRET for secret in SECRETS} | {"INFERWATCH_PASSWORD": SECRET}
    with pytest.raises(ConfigError) as caught:
        load(environ | {"INFERWATCH_WEB_PORT": "x"})
    assert SECRET not in str(caught.value)
    # pydantic's own error quotes what it was given: it must not be in the traceback either.
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_every_secret_is_typed_as_one() -> None:
    words = ("password", "secret", "key", "recipients")
    names = [name for name in Settings.model_fields if any(word in name for word in words)]
    assert [name for name in names if name != "kafka_ssl_keyfile"] == SECRETS
    dumped = json.loads(Settings().model_dump_json())
    assert all(set(dumped[name]) <= {"*"} for name in SECRETS)


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load({}).web_port = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_has_a_description_and_its_default_is_valid(name: str) -> None:
    field = Settings.model_fields[name]
    assert field.description
    Settings.model_validate({name: field.default})


def test_as_variables_the_settings_are_the_same_again(tmp_path: Path, file: Path) -> None:
    file.write_text('kafka_ssl_cafile = "ca.pem"\nclickhouse_insert_timeout_s = 2.5\nlog_format = "json"\n')
    settings = load(
        {"INFERWATCH_CONFIG_FILE": str(file), "INFERWATCH_CLICKHOUSE_PASSWORD": SECRET, "INFERWATCH_WEB_PORT": "1"}
    )
    assert load(to_environ(settings)) == settings
    assert load(to_environ(load({}))) == load({})


def test_as_variables_they_hold_over_any_environment(tmp_path: Path, file: Path) -> None:
    """A child gets its parent's environment with these laid over it."""
    (tmp_path / "secret").write_text(SECRET)
    file.write_text('kafka_sasl_username = "file"\nworkspace = "file"\n')
    parents = {
        "INFERWATCH_CONFIG_FILE": str(file),
        "INFERWATCH_CLICKHOUSE_PASSWORD_FILE": str(tmp_path / "secret"),
        "INFERWATCH_CLICKHOUSE_ADMIN_USER": "admin",
    }
    settings = load(parents, {"kafka_sasl_username": "", "clickhouse_admin_user": "", "workspace": "mine"})
    assert settings.workspace == "mine"
    assert load(parents | to_environ(settings)) == settings


def test_a_topic_and_a_group_carry_their_prefix() -> None:
    settings = load({"INFERWATCH_TOPIC_PREFIX": "test.", "INFERWATCH_GROUP_PREFIX": "blue"})
    assert settings.topic("inference.events") == "test.inference.events"
    assert settings.group("recorder") == "blue-recorder"


def test_time_limits_are_given_in_days_and_seconds_and_held_in_ms() -> None:
    limits = load({"INFERWATCH_EVENT_AGE_DAYS_MAX": "2", "INFERWATCH_EVENT_AHEAD_S_MAX": "3"}).time_limits
    assert (limits.age_ms_max, limits.ahead_ms_max) == (172_800_000, 3000)


def test_the_address_of_clickhouse_has_no_slash_at_its_end() -> None:
    assert load({"INFERWATCH_CLICKHOUSE_URL": "https://ch:8443/"}).clickhouse_url == "https://ch:8443"
