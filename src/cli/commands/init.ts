import { resolve } from 'node:path'
import type { Command } from 'commander'
import { createSystemRandom } from '#clock'
import type { CommandContext } from '../context.ts'
import { writeHome } from '../new-home.ts'
import { skeletonFiles } from '../skeleton.ts'
import { print } from '../terminal.ts'

/** `init`. */
export const addInit = (program: Command, { terminal, home }: CommandContext): void => {
  program
    .command('init')
    .description('write a configuration folder with a commented deputy.yaml and fresh keys')
    .argument('[folder]', 'folder to write; default: the home folder')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  deputy init ./deputy && deputy serve --home ./deputy')
    .action(async (folder: string | undefined, options: { json?: boolean }) => {
      const target = folder === undefined ? home() : resolve(terminal.workingFolder, folder)
      const { created } = await writeHome(
        target,
        await skeletonFiles(createSystemRandom()),
        new AbortController().signal,
      )
      print(
        terminal,
        options,
        { home: target, created },
        () =>
          `${target} is ready: ${created.length} files. Next:\n  deputy tenant add --home ${target} --help\n  deputy serve --home ${target}`,
      )
    })
}
