"""bash itself runs the script of `kipper completion bash` and completes command lines."""

import shutil
import subprocess

import pytest

from kipper.launch.main import run

# Sets the variables that bash's line editor would set, and prints the proposals.
_ASK = """
compopt() {{ :; }}
source {script}
complete -p kipper
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_kipper
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("shell") / "kipper.bash"
    with pytest.MonkeyPatch.context() as patch:
        written = []
        patch.setattr("builtins.print", lambda text, end="\n": written.append(text + end))
        assert run(["completion", "bash"]) == 0
    path.write_text("".join(written))
    return path


def _proposed(script, *words):
    quoted = " ".join(f"'{word}'" for word in words)
    asked = subprocess.run(
        ["bash", "--norc", "-u", "-c", _ASK.format(script=script, words=quoted)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stderr == ""
    first, *proposed = asked.stdout.splitlines()
    assert first == "complete -o default -F _kipper kipper"
    return [word for word in proposed if word]


@pytest.mark.parametrize(
    ("words", "proposed"),
    [
        (["di"], ["distill"]),
        (["ben"], ["bench"]),
        (["distill", "--learn"], ["--learn_labels", "--learning_rate="]),
        (["distill", "--dry"], ["--dry_run"]),
        (["distill", "--kernel", "="], ["ntk", "nngp"]),
        (["distill", "--dataset=digits", "--launch", "=", "local"], ["local_mt", "local_mp"]),
        (["solve_labels", "--label_r"], ["--label_ridge="]),
        (["solve_labels", "--learn"], []),
        (["launch", ""], ["distill", "solve_labels"]),
        (["launch", "solve_labels", "--label_"], ["--label_ridge="]),
        (["bench", "--image"], ["--image_shape="]),
        (["bench", "distill", "--image"], []),
        (["bench", "distill", "--support_i"], ["--support_init="]),
        (["status", ""], []),  # left to bash, which completes files
        (["distill", "--workdir", "=", "ru"], []),
    ],
)
def test_bash_proposes_what_fits(script, words, proposed):
    assert _proposed(script, "kipper", *words) == proposed


def test_another_shell_is_refused(capsys):
    assert run(["completion"]) == 2
    assert "kipper completion bash" in capsys.readouterr().err
    assert run(["completion", "csh"]) == 2
    assert "bash" in capsys.readouterr().err


# Replaces what only works while zsh completes a line; the real `compadd` drops other prefixes.
_ASK_ZSH = """
autoload -U compinit; compinit -u -D
source {script}
compadd() {{ while [[ $1 == -* && $1 != -- ]]; do [[ $1 == -S ]] && shift; shift; done
  shift; print -l -- "$@" }}
compset() {{ : }}
_files() {{ print FILES }}
words=({words}); CURRENT=$#words
_kipper
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["di"], {"distill", "evaluate"}),
        (["distill", "--kernel="], {"ntk", "nngp"}),
        (["distill", "--dataset="], {"digits", "cifar10", "npz:"}),
        (["distill", "--architecture", ""], {"convnet", "myrtle10"}),
        (["launch", ""], {"distill", "solve_labels"}),
        (["distill", "--le"], {"--learn_labels", "--learning_rate="}),
        (["report", ""], {"FILES"}),
    ],
)
def test_zsh_proposes_commands_flags_and_values(tmp_path, capsys, words, expected):
    assert run(["completion", "zsh"]) == 0
    script = tmp_path / "kipper.zsh"
    script.write_text(capsys.readouterr().out)
    quoted = " ".join(f"'{word}'" for word in ("kipper", *words))
    asked = _ASK_ZSH.format(script=script, words=quoted)
    found = subprocess.run(["zsh", "-f", "-c", asked], capture_output=True, text=True, check=True)
    assert expected <= set(found.stdout.split())
    assert not found.stderr


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kipper di", {"distill"}),
        ("kipper distill --kernel=", {"--kernel=ntk", "--kernel=nngp"}),
        ("kipper distill --dataset=c", {"--dataset=cifar10", "--dataset=cifar100"}),
        ("kipper status --j", {"--json"}),
        ("kipper bench s", {"solve_labels"}),
    ],
)
def test_fish_proposes_commands_flags_and_values(tmp_path, capsys, monkeypatch, line, expected):
    assert run(["completion", "fish"]) == 0
    (tmp_path / "kipper.fish").write_text(capsys.readouterr().out)
    monkeypatch.setenv("HOME", str(tmp_path))
    asked = f"source {tmp_path / 'kipper.fish'}; complete -C '{line}'"
    found = subprocess.run(["fish", "-N", "-c", asked], capture_output=True, text=True, check=True)
    assert expected <= {each.partition("\t")[0] for each in found.stdout.splitlines()}
