/** Finds the commands of `deputy` that a text names and that the program does not have: commands, options, words too many. */
import { readFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { createProgram } from '../src/cli/program.ts'

/** One command line, and how strict to be: a whole one has its arguments too. */
interface Named {
  readonly line: string
  readonly isWhole: boolean
}

/** The ways in which pages call the program: by its name, from a checkout, in a container, as another Unix user, for its output. */
const CALL =
  /^(?:.*(?:\$\(|[|"]) ?)?(?:[A-Z_]+=\S+ )*(?:sudo (?:-u \w+ )?|docker compose exec \w+ |timeout \d+ )*(?:deputy|node \S*\/main\.js|npm run (?:--silent|-s) deputy --)(?: (.*))?$/

const fences = (text: string): string[] => [...text.matchAll(/^ *```sh\n([\s\S]*?)^ *```/gm)].map(([, block]) => block!)

/** The words of a command, as a shell splits them: what is quoted or substituted is one. */
const wordsOf = (line: string): string[] => line.match(/(?:'[^']*'|"[^"]*"|\$\([^)]*\)|[^\s'"])+/g) ?? []

/** What follows the program's name, up to what the shell takes for itself. */
const argumentsOf = (command: string): string | undefined => {
  const found = CALL.exec(command.trim())
  if (found === null) return undefined
  const words = wordsOf(found[1] ?? '')
  const end = words.findIndex((word) => /^(?:[|>&;)]|<(?!\w+>)|\d>)/.test(word))
  return (end === -1 ? words : words.slice(0, end)).join(' ').replace(/[);&]+$/, '')
}

const ofBlock = (block: string): Named[] =>
  block
    .replaceAll(/\\\n\s*/g, ' ')
    .replaceAll(/(?:^|\s)#.*$/gm, '')
    .split(/\n|&&|; /)
    .map(argumentsOf)
    .filter((line) => line !== undefined)
    .map((line) => ({ line, isWhole: true }))

/** First lines of what the audit log signs: they look like commands. */
const SIGNED: readonly string[] = ['audit genesis', 'audit checkpoint', 'audit segment']
const isCommand = ({ line }: Named): boolean => !SIGNED.includes(line)

/** The command lines of a page: of its shell blocks, and in code font. */
export const commandsIn = (text: string): Named[] => {
  const inFont = text.replaceAll(/^ *```[^\n]*\n[\s\S]*?^ *```/gm, '').matchAll(/`deputy (?!-\s)([^`\n]+)`/g)
  return [...fences(text).flatMap(ofBlock), ...[...inFont].map(([, line]) => ({ line: line!, isWhole: false }))]
}

/**
 * The command lines that a source gives to a person: literals that are nothing else, or end with one.
 * @param names the first words of commands: `deputy is ready` is none
 */
export const adviceIn = (source: string, names: ReadonlySet<string>): Named[] =>
  [...source.matchAll(/(?:['"`]|: )deputy ((?:\$\{[^}]*\}|[^'"`\n\\])+)['"`\\]/g)]
    .map(([, line]) => ({ line: line!.replaceAll(/\$\{[^}]*\}/g, 'X').trim(), isWhole: false }))
    .filter(({ line }) => names.has(line.split(' ')[0]!))

const optionNamed = (command: Command, name: string) =>
  command.options.find(({ long, short }) => long === name || short === name)

/**
 * What is wrong with a command line.
 * @param program every command of it
 * @returns a sentence, or undefined
 */
export const problemOf = (program: Command, { line, isWhole }: Named): string | undefined => {
  const words = wordsOf(line)
  let command = program
  let given = 0
  for (let at = 0; at < words.length; at += 1) {
    const word = words[at]!
    if (word === '--') return undefined
    if (word.startsWith('-')) {
      const name = word.split('=')[0]!.replace(/[|,].*$/, '')
      if (['--help', '-h', '--home'].includes(name)) {
        if (name === '--home' && !word.includes('=')) at += 1
        continue
      }
      const option = optionNamed(command, name) ?? optionNamed(program, name)
      if (option === undefined) return `${command.name()} has no option ${name}`
      if ((option.required || (option.optional && !(words[at + 1] ?? '-').startsWith('-'))) && !word.includes('='))
        at += 1
    } else if (command.commands.length > 0) {
      // A|B names several commands, an ellipsis all of them.
      const names = word.split('|')
      if (names.some((name) => /^(?:…|\.\.\.|[A-Z]+)$/.test(name))) return undefined
      const found = names.map((name) =>
        command.commands.find((each) => each.name() === name || each.aliases().includes(name)),
      )
      // `deputy backup FILE` has an argument beside its commands.
      if (found.includes(undefined) && command.registeredArguments.length > 0) {
        given += 1
        continue
      }
      if (found.includes(undefined)) return `there is no command ${line}`
      if (found.length > 1) return undefined
      command = found[0]!
    } else given += 1
  }
  if (!isWhole) return undefined
  if (command.commands.length > 0 && command.registeredArguments.length === 0)
    return command === program ? undefined : `${line} lacks its last word`
  const { registeredArguments: takes } = command
  if (given < takes.filter(({ required }) => required).length) return `${line} lacks an argument`
  if (given > takes.length && !takes.some(({ variadic }) => variadic)) return `${line} has a word too many`
  return undefined
}

/** The program with every command, which prints nothing. */
export const wholeProgram = (): Promise<Command> =>
  createProgram({
    out: () => undefined,
    err: () => undefined,
    input: () => Promise.resolve(new Uint8Array()),
    isInteractive: false,
    environment: {},
    workingFolder: '/',
  })

/** What is wrong with the commands in pages, and in the advice of the sources: each with its file. */
export const wrongCommands = async (root: string, pages: readonly string[]): Promise<string[]> => {
  const program = await wholeProgram()
  const names = new Set(program.commands.map((command) => command.name()))
  const sources = (await readdir(join(root, 'src'), { recursive: true }))
    .filter((path) => path.endsWith('.ts'))
    .map((path) => `src/${path}`)
  const of = (find: (text: string) => Named[]) => (path: string) =>
    find(readFileSync(join(root, path), 'utf8'))
      .filter(isCommand)
      .map((named) => problemOf(program, named))
      .filter((problem) => problem !== undefined)
      .map((problem) => `${path}: deputy: ${problem}`)
  return [...pages.flatMap(of(commandsIn)), ...sources.flatMap(of((text) => adviceIn(text, names)))]
}
