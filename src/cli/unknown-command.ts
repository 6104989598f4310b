import type { Command } from 'commander'
import { didYouMean } from '#foundation/text'

/** Options in front of a command that take the next word. */
const WITH_VALUE: readonly string[] = ['--home']

/**
 * Finds the first word of a command line in the place of a command that is not one. It runs before anything is parsed: with
 * `--help` behind it, such a word would show the help of the surrounding command.
 * @returns the message; undefined when every command is known
 */
export const unknownCommandIn = (program: Command, argv: readonly string[]): string | undefined => {
  let command = program
  for (let at = 0; at < argv.length && command.commands.length > 0; at += 1) {
    const word = argv[at]!
    if (word === '--') return undefined
    const option = command.options.find(({ long, short }) => long === word || short === word)
    if (WITH_VALUE.includes(word) || option?.required === true) at += 1
    if (word.startsWith('-') || word === 'help') continue
    const found = command.commands.find((each) => each.name() === word || each.aliases().includes(word))
    // A command with words of its own beside its subcommands.
    if (found === undefined && command.registeredArguments.length > 0) return undefined
    if (found === undefined) {
      const path = command === program ? '' : ` ${command.name()}`
      const known = command.commands.map((each) => each.name())
      return `error: there is no command 'deputy${path} ${word}'. ${didYouMean(word, known) || `See: deputy${path} --help`}`
    }
    command = found
  }
  return undefined
}
