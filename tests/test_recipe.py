"""Recipes: files, overrides, round trips, and what a mistake in one is answered with."""

import pytest

from satori.pipeline import STAGES, stage_settings
from satori.recipe import Recipe, RecipeError, dump_recipe, explain, load_recipe, recipe_files
from satori.run_folder import differences


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def error_of(name_or_path, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_recipe(name_or_path, overrides)
    return str(caught.value)


# --- values and overrides ---


def test_an_empty_recipe_is_the_defaults(tmp_path):
    assert load_recipe(write(tmp_path, "")) == Recipe()


def test_a_recipe_names_only_what_differs(tmp_path):
    recipe = load_recipe(write(tmp_path, "seed: 3\ntune: {epochs: 5}\n"))
    assert recipe == Recipe.model_validate({"seed": 3, "tune": {"epochs": 5}})


def test_an_override_goes_over_the_file(tmp_path):
    path = write(tmp_path, "seed: 3\nrl: {steps: 4, temperature: 0.7}\n")
    recipe = load_recipe(path, [("seed", "7"), ("rl.steps", "9")])
    assert (recipe.seed, recipe.rl.steps, recipe.rl.temperature) == (7, 9, 0.7)


def test_an_override_reaches_a_section_that_the_file_does_not_name(tmp_path):
    assert load_recipe(write(tmp_path, ""), [("rl.starts.positive", "0")]).rl.starts.positive == 0


def test_of_two_overrides_of_a_key_the_last_one_holds(tmp_path):
    assert load_recipe(write(tmp_path, ""), [("seed", "1"), ("seed", "2")]).seed == 2


@pytest.mark.parametrize(
    ("text", "value"), [("2", 2.0), ("0.5", 0.5), ("1e-6", 1e-6), ("1.0e-3", 1e-3)]  # YAML reads 1e-6 as text
)  # fmt: skip
def test_numbers_can_be_written_in_any_common_way(tmp_path, text, value):
    assert load_recipe(write(tmp_path, ""), [("tune.learning_rate", text)]).tune.learning_rate == value


def test_an_override_can_be_a_choice_or_a_truth_value(tmp_path):
    recipe = load_recipe(write(tmp_path, ""), [("variant", "cot"), ("rl.use_reward_model", "false")])
    assert (recipe.variant.value, recipe.rl.use_reward_model) == ("cot", False)


def test_an_override_reaches_into_a_section_that_a_saved_recipe_holds_as_null(tmp_path):
    path = write(tmp_path, dump_recipe(Recipe()))
    server = [("synthesis.critic.kind", "chat"), ("synthesis.critic.server.model", "m")]
    recipe = load_recipe(path, [*server, ("synthesis.critic.server.url", "http://h/v1")])
    assert recipe.synthesis.critic.server.model == "m"
    assert load_recipe(path, [("restarts.released.path", "b.jsonl")]).restarts.released.path == "b.jsonl"


def test_shipped_recipes_load_by_name():
    assert "tiny" in recipe_files()
    for name, path in recipe_files().items():
        assert load_recipe(name) == load_recipe(str(path))


@pytest.mark.parametrize("name", recipe_files())
def test_a_dumped_recipe_loads_to_the_same_recipe(tmp_path, name):
    recipe = load_recipe(name, [("seed", "3"), ("rl_2.temperature", "1.1"), ("description", "'größer: a # b'")])
    assert recipe.description == "größer: a # b"
    assert load_recipe(write(tmp_path, dump_recipe(recipe))) == recipe


# --- round 2 inherits from round 1 ---


def test_round_2_takes_from_round_1_what_it_does_not_name(tmp_path):
    recipe = load_recipe(write(tmp_path, "rl: {steps: 4, actor_lr: 0.1}\nrl_2: {steps: 2}\n"))
    assert (recipe.rl_2.steps, recipe.rl_2.actor_lr) == (2, 0.1)
    assert recipe.rl.steps == 4


def test_round_2_is_round_1_where_it_is_not_named(tmp_path):
    recipe = load_recipe(write(tmp_path, "rl: {steps: 4}\n"))
    assert recipe.rl_2 == recipe.rl


def test_round_2_inherits_inside_nested_sections(tmp_path):
    text = "rl: {starts: {positive: 0.2, negative: 3}}\nrl_2: {starts: {negative: 0}}\n"
    starts = load_recipe(write(tmp_path, text)).rl_2.starts
    assert (starts.problem, starts.positive, starts.negative) == (1.0, 0.2, 0.0)


def test_an_override_of_round_1_reaches_round_2_too(tmp_path):
    path = write(tmp_path, "rl: {steps: 4}\nrl_2: {temperature: 1.2}\n")
    recipe = load_recipe(path, [("rl.steps", "9"), ("rl.temperature", "0.5")])
    assert (recipe.rl_2.steps, recipe.rl_2.temperature) == (9, 1.2)


def test_an_override_of_round_2_leaves_round_1_alone(tmp_path):
    recipe = load_recipe(write(tmp_path, "rl: {steps: 4}\n"), [("rl_2.steps", "9")])
    assert (recipe.rl.steps, recipe.rl_2.steps) == (4, 9)


# --- mistakes ---


def test_an_unknown_recipe_is_answered_with_the_known_ones():
    message = error_of("tinny")
    assert "no recipe 'tinny'" in message
    assert "tiny" in message.removeprefix("no recipe 'tinny'")


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("pretran.steps", "pretran: unknown key; did you mean pretrain?"),
        ("tune.learning_rat", "tune.learning_rat: unknown key; did you mean learning_rate?"),
        ("rl.starts.negativ", "rl.starts.negativ: unknown key; did you mean negative?"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_one(tmp_path, key, suggestion):
    path = write(tmp_path, "")
    message = error_of(path, (key, "1"))
    assert message.startswith(f"{path}: ")
    assert suggestion in message


def test_a_key_like_no_other_is_answered_with_the_known_ones(tmp_path):
    message = error_of(write(tmp_path, "engine: {zzz: 1}\n"))
    assert "engine.zzz: unknown key; known keys: kind, rows, vllm" in message


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("tune.epochs", "many", "'many'"),
        ("seed", "1.5", "1.5"),
        ("seed", "-1", "-1"),
        ("variant", "cat", "'cat'"),
        ("description", "5", "5"),
        ("engine", "7", "7"),
        ("reward_model.samples", "1", "1"),
        ("rl.starts.problem", "[1]", "[1]"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(tmp_path, key, value, found):
    message = error_of(write(tmp_path, ""), (key, value))
    assert f"{key}: " in message
    assert f"(found {found})" in message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("evaluate.other_task", "nosuch", "reasoning-gym has no task 'nosuch'"),
        ("evaluate.other_task", "composite", "cannot make the task 'composite' without further settings"),
        ("evaluate.other_task", "arc_agi", "its scorer judges otherwise"),
        ("evaluate.benchmarks", "[gsm9k]", "unknown benchmark 'gsm9k' (did you mean gsm8k?)"),
    ],
)
def test_what_cannot_be_evaluated_on_is_named_before_anything_runs(tmp_path, key, value, words):
    message = error_of(write(tmp_path, ""), (key, value))
    assert f"{key}: " in message
    assert words in message


def test_every_mistake_of_a_recipe_is_named(tmp_path):
    message = error_of(write(tmp_path, "seed: x\ntune: {epoch: 2}\n"))
    assert "seed: " in message
    assert "tune.epoch: unknown key; did you mean epochs?" in message


@pytest.mark.parametrize("text", ["seed: [1\n", "a: b: c\n", "\ttune: 1\n", "seed: 1\n\x00", "a: 2024-13-45\n"])
def test_broken_yaml_names_the_file(tmp_path, text):
    path = write(tmp_path, text)
    assert error_of(path).startswith(f"{path}: not valid YAML")


@pytest.mark.parametrize(("text", "kind"), [("- 1\n", "list"), ("hello\n", "str"), ("5\n", "int")])
def test_a_file_that_holds_no_sections_is_named(tmp_path, text, kind):
    path = write(tmp_path, text)
    assert error_of(path) == f"{path}: expected sections and keys, found {kind}"


def test_yaml_tags_run_nothing(tmp_path):
    path = write(tmp_path, "seed: !!python/object/apply:os.system ['exit 1']\n")
    assert error_of(path).startswith(f"{path}: not valid YAML")


def test_an_override_below_a_value_is_refused(tmp_path):
    assert error_of(write(tmp_path, "seed: 3\n"), ("seed.x", "1")) == "--seed.x: seed is a value, not a section"


@pytest.mark.parametrize(("key", "text"), [("rl.starts", "{problem: 1"), ("description", "2024-13-45")])
def test_an_override_that_is_no_yaml_names_the_key(tmp_path, key, text):
    assert error_of(write(tmp_path, ""), (key, text)).startswith(f"--{key}: '{text}' is not a value: ")


@pytest.mark.parametrize(("section", "value"), [("rl", "5"), ("rl", "[1]"), ("rl_2", "5"), ("rl_2", "hello")])
def test_a_round_that_is_no_section_is_named(tmp_path, section, value):
    assert f"{section}: " in error_of(write(tmp_path, f"{section}: {value}\n"))


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_bytes(b"seed: \xff\xfe\n")
    assert error_of(str(path)).startswith(f"{path}: ")


def test_a_mistake_in_round_1_is_named_once(tmp_path):
    assert "rl_2" not in error_of(write(tmp_path, "rl: {stepz: 1}\n"))


@pytest.mark.parametrize("overrides", [[], [("tune.epochs", "3")]])
def test_an_empty_section_is_its_defaults(tmp_path, overrides):
    assert load_recipe(write(tmp_path, "tune:\n"), overrides) == load_recipe(write(tmp_path, ""), overrides)


# --- explaining ---


def dotted(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield f"--{prefix}{name}"


def test_explain_lists_every_setting_once():
    listed = [line.split(" ")[0] for line in explain(Recipe).splitlines()]
    assert listed == list(dotted(Recipe().model_dump()))


def test_explain_shows_default_and_meaning():
    lines = explain(Recipe).splitlines()
    [line] = [line for line in lines if line.startswith("--reward_model.margin ")]
    assert line.split() == ["--reward_model.margin", "2.0", "tau", "(paper:", "2)."]
    assert any(line.startswith("--variant coat ") for line in lines)


def test_every_explained_default_can_be_given_as_an_override(tmp_path):
    settings = [line[2:].split(" ")[:2] for line in explain(Recipe).splitlines()]
    overrides = [(key, value) for key, value in settings if value]
    assert load_recipe(write(tmp_path, ""), overrides) == Recipe()


# --- what shapes an artifact ---


def test_where_a_server_is_does_not_shape_an_artifact_and_what_it_serves_does():
    [synthesis] = [stage for stage in STAGES if stage.name == "synthesis"]

    def shaped(**server):
        place = {"url": "http://localhost:8000/v1", "model": "m", **server}
        return stage_settings(Recipe(synthesis={"critic": {"kind": "chat", "server": place}}), synthesis)

    assert shaped() == shaped(url="http://other:9/v1", concurrency=3, timeout=5, key_variable="KEY")
    assert shaped() != shaped(model="another")
    assert shaped() != shaped(extra_fields={"top_k": 1})


# --- the small sizes of a recipe ---


def test_smoke_takes_the_small_sizes_and_overrides_come_after(tmp_path):
    path = write(tmp_path, "rl: {steps: 50, batch_size: 8}\nsmoke:\n  rl: {steps: 2}\n")
    assert load_recipe(path).rl.steps == 50
    small = load_recipe(path, smoke=True)
    assert (small.rl.steps, small.rl.batch_size, small.rl_2.steps) == (2, 8, 2)
    assert load_recipe(path, [("rl.steps", "3")], smoke=True).rl.steps == 3
    with pytest.raises(RecipeError, match="no section smoke"):
        load_recipe(write(tmp_path, "seed: 1\n"), smoke=True)


@pytest.mark.parametrize("name", sorted(recipe_files()))
def test_every_shipped_recipe_loads_and_says_what_it_is(name):
    assert load_recipe(name).description


def test_the_engine_does_not_shape_an_artifact():
    other = Recipe(engine={"kind": "vllm", "rows": 8})
    assert all(stage_settings(Recipe(), stage) == stage_settings(other, stage) for stage in STAGES)


def test_a_changed_prompt_is_another_configuration_where_a_chat_model_is_asked(tmp_path):
    synthesis = next(stage for stage in STAGES if stage.name == "synthesis")
    prompt = tmp_path / "solve.md"
    own = [("synthesis.prompts", str(tmp_path)), ("synthesis.generator.kind", "chat")]

    def settings(text, overrides):
        prompt.write_text(text)
        return stage_settings(load_recipe("tiny", overrides), synthesis)

    [changed] = differences(settings("Solve {{question}}", own), settings("Work out {{question}}", own))
    assert changed.startswith("prompts.solve: ")
    assert settings("Solve {{question}}", own[:1]) == settings("Work out {{question}}", own[:1])  # nobody is asked
    assert "prompts" not in settings("Solve {{question}}", [])


@pytest.mark.parametrize("url", ["http://bob:SECRET@host/v1", "http://host/v1?key=SECRET", "SECRET@host"])
def test_an_address_that_may_hold_a_key_is_not_repeated(tmp_path, url):
    path = tmp_path / "recipe.yaml"
    server = f"{{url: '{url}', model: m, extra_fields: {{key: SECRET}}}}"
    path.write_text(f"synthesis: {{generator: {{kind: chat, server: {server}}}}}")
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    assert "synthesis.generator.server.url: " in str(caught.value)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("agent", ["generator", "critic"])
@pytest.mark.parametrize("place", ["checkpoint: somewhere", "server: {url: 'http://h/v1', model: m}"])
def test_a_place_that_an_agent_would_not_use_is_refused(tmp_path, agent, place):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"synthesis: {{{agent}: {{{place}}}}}")
    with pytest.raises(RecipeError, match="set kind to chat"):
        load_recipe(str(path))


@pytest.mark.parametrize("place", ["", "kind: server, server: {url: 'http://h/v1', model: m},"])
def test_a_prompt_form_that_a_reward_model_would_not_use_is_refused(tmp_path, place):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"synthesis: {{reward_model: {{{place} prompt: orm}}}}")
    with pytest.raises(RecipeError, match=r"only kind classifier has a prompt here; a server's is server\.prompt"):
        load_recipe(str(path))


@pytest.mark.parametrize("sizes", [(1, 96), (5, 96)])
@pytest.mark.parametrize("estimator", ["grpo", "rloo"])
def test_groups_of_one_are_refused(estimator, sizes):
    """Nothing to compare a sample with: all its advantages would be 0."""
    overrides = [("rl.estimator", estimator), ("rl.samples_per_prompt", str(sizes[0])), ("rl.rollouts_per_step", "96")]
    with pytest.raises(RecipeError, match=f"rl: .*samples_per_prompt is {sizes[0]} and rollouts_per_step 96") as caught:
        load_recipe("tiny", [*overrides, ("rl_2.samples_per_prompt", "8")])
    assert "rl_2" not in str(caught.value)
    assert load_recipe("tiny", [("rl.estimator", estimator), ("rl.samples_per_prompt", "8")]).rl.estimator == estimator


@pytest.mark.parametrize("field", ["api: completion-ids", "extensions: false", "logprobs: true"])
def test_what_an_agent_has_no_use_for_is_refused(tmp_path, field):
    """Agents are asked through the chat API."""
    path = tmp_path / "recipe.yaml"
    path.write_text(f"synthesis: {{critic: {{kind: chat, server: {{url: 'http://h/v1', model: m, {field}}}}}}}")
    with pytest.raises(RecipeError, match=rf"synthesis\.critic\.server\.{field.split(':')[0]}"):
        load_recipe(str(path))


def test_an_address_in_the_place_of_a_server_is_not_repeated(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("synthesis: {critic: {kind: chat, server: 'http://bob:SECRET@host/v1'}}")
    with pytest.raises(RecipeError, match=r"synthesis\.critic\.server: ") as caught:
        load_recipe(str(path))
    assert "SECRET" not in str(caught.value)
