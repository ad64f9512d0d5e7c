// `lowrank completion`: scripts for shells that complete commands and options, made from the commands themselves.
import { Argument, type Command, type Option } from "commander";
import { action, examples } from "./action.ts";

const EXAMPLES = examples({
  'eval "$(lowrank completion bash)"': "for this bash; in ~/.bashrc for all",
  'eval "$(lowrank completion zsh)"': "for zsh; in ~/.zshrc, behind compinit",
  "lowrank completion fish > ~/.config/fish/completions/lowrank.fish": "for fish",
});

export function addCompletion(program: Command): void {
  program
    .command("completion")
    .summary("prints a script with which a shell completes commands and options")
    .description("Prints a script with which a shell completes commands, options and paths.")
    .addArgument(new Argument("<shell>", "the shell").choices(Object.keys(SHELLS)))
    .addHelpText("after", EXAMPLES)
    .action(
      action(async (output, _, shell: keyof typeof SHELLS) => {
        const script = SHELLS[shell](wordsOf(program));
        output.document({ shell, script });
        output.say(script);
      }),
    );
}

/** A command, or an option of one, with what it does. */
interface Word {
  /** As it is typed; the long form of an option first. */
  names: string[];
  what: string;
  /** Whether something stands behind it. */
  takes: boolean;
}

/** All that can be typed. */
interface Words {
  commands: (Word & { options: Word[] })[];
  global: Word[];
}

function wordsOf(program: Command): Words {
  const commands = program.commands.map((command) => ({
    names: [command.name()],
    what: command.summary() || command.description(),
    takes: command.registeredArguments.length > 0,
    options: command.options.map(optionOf),
  }));
  const help: Word = { names: ["--help", "-h"], what: "shows help", takes: false };
  return { commands, global: [...program.options.map(optionOf), help] };
}

const optionOf = ({ long, short, description, required, optional }: Option): Word => ({
  names: [long, short].filter((name) => name != null),
  what: description,
  takes: required || optional,
});

const namesOf = (words: readonly Word[]) => words.flatMap(({ names }) => names).join(" ");
/** A text in single quotes. */
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

/** Options are completed where a dash is typed, paths elsewhere. */
function bash({ commands, global }: Words): string {
  const cases = commands.map(
    ({ names: [name], options }) =>
      `    ${name}) words=${quoted(namesOf([...options, ...global]))} ;;`,
  );
  const all = commands.map(({ names }) => names[0]).join("|");
  return `_lowrank() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" command= word words
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$word" in ${all}) command="$word"; break ;; esac
  done
  case "$command" in
    '') words=${quoted(namesOf([...commands, ...global]))} ;;
${cases.join("\n")}
  esac
  COMPREPLY=()
  if [[ -z "$command" || "$cur" == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  fi
}
complete -o default -F _lowrank lowrank`;
}

function zsh({ commands, global }: Words): string {
  const entry = (name: string, what: string) => quoted(`${name}:${what}`);
  const list = (words: readonly Word[]) =>
    words.flatMap(({ names, what }) => names.map((name) => entry(name, what))).join(" ");
  const cases = commands.map(
    ({ names: [name], options }) => `    ${name}) described=(${list([...options, ...global])}) ;;`,
  );
  const all = commands.map(({ names }) => names[0]).join("|");
  return `#compdef lowrank
_lowrank() {
  local command= word
  local -a described
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$word" in ${all}) command="$word"; break ;; esac
  done
  case "$command" in
    '') described=(${list([...commands, ...global])}) ;;
${cases.join("\n")}
  esac
  if [[ -z "$command" || "$words[CURRENT]" == -* ]]; then
    _describe lowrank described
  else
    _files
  fi
}
if [[ "$funcstack[1]" == _lowrank ]]; then _lowrank "$@"; else compdef _lowrank lowrank; fi`;
}

function fish({ commands, global }: Words): string {
  const option = (condition: string, { names: [long, short], what, takes }: Word) =>
    [
      `complete -c lowrank${condition}`,
      `-l ${long!.slice(2)}${short ? ` -s ${short.slice(1)}` : ""}${takes ? " -r" : ""}`,
      `-d ${fishText(what)}`,
    ].join(" ");
  return [
    ...commands.map(
      ({ names: [name], what }) =>
        `complete -c lowrank -n __fish_use_subcommand -f -a ${name} -d ${fishText(what)}`,
    ),
    ...global.map((word) => option("", word)),
    ...commands.flatMap(({ names: [name], options }) =>
      options.map((word) => option(` -n '__fish_seen_subcommand_from ${name}'`, word)),
    ),
  ].join("\n");
}

const fishText = (text: string) => `'${text.replace(/['\\]/g, "\\$&")}'`;

const SHELLS = { bash, zsh, fish } as const;
