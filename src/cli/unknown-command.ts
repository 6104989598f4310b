import type { Command } from 'commander'
import { didYouMean } from '#foundation/text'

/** Options in front of a command that take the next word. */
const WITH_VALUE: readonly string[] = ['--home']

/**
 * The first word of a command line that stands where a command has to stand and is none; undefined where every command
 * is known. Asked before anything is parsed: with `--help` behind it, such a word would get the help of what is around it.
 * @returns what to say
 */
export const unknownCommandIn = (program: Command, argv: readonly string[]): string | undefined => {
  let command = program
  for (let at = 0; at < argv.length && command.commands.length > 0; at += 1) {
    const word = argv[at]!
    if (word === '--') return undefined
    if (WITH_VALUE.includes(word)) at += 1
    if (word.startsWith('-') || word === 'help') continue
    const found = command.commands.find((each) => each.name() === word || each.aliases().includes(word))
    if (found === undefined) {
      const path = command === program ? '' : ` ${command.name()}`
      const known = command.commands.map((each) => each.name())
      return `error: there is no command 'deputy${path} ${word}'. ${didYouMean(word, known) || `See: deputy${path} --help`}`
    }
    command = found
  }
  return undefined
}
