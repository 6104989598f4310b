import type { Command } from 'commander'
import { CommandError, exit } from './terminal.ts'

/**
 * Lets a command take its subject as an argument (`tenant freeze acme`) or as an option, as in earlier versions.
 * The action gets the argument first and finds the name among its options, whichever way it came.
 * @param option the option's name: `tenant` for `--tenant`
 */
export const takesName = (command: Command, option: string, description: string): Command =>
  command
    .argument(`[${option}]`, description)
    .option(`--${option} <${option}>`, 'the argument, as an option')
    .hook('preAction', (_, acting) => {
      const [argument] = acting.args
      const given = acting.getOptionValue(option) as string | undefined
      if (argument !== undefined && given !== undefined && argument !== given)
        throw new CommandError(
          exit.usage,
          `The command names both ${argument} and --${option} ${given}.`,
          'Name one of them.',
        )
      if (argument === undefined && given === undefined)
        throw new CommandError(exit.usage, `error: missing argument '${option}'`, `Add --help for how to write it.`)
      acting.setOptionValue(option, argument ?? given)
    })
