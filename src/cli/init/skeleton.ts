/** The files of a new configuration folder, before anything is registered in it. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Random } from '#clock'
import { examples, SETTINGS_FILE, settingsTemplate } from '#config'
import { newKeyText } from '#foundation/crypto'
import { shippedPolicies } from '../home.ts'

/** A file to write: its path below the configuration folder, and its text. */
export interface NewFile {
  readonly path: string
  readonly text: string
}

export const FOLDERS = [
  'state',
  'run',
  'tenants',
  'servers',
  'downstreams',
  'clients',
  'providers',
  'policies',
  'policies/access',
]

/** Comments of each kind of file in `policies/access`. */
const MARKS: readonly (readonly [ending: string, mark: string])[] = [
  ['.cedar', '//'],
  ['.yaml', '#'],
]

const NOTE =
  'An example, as comments: replace its names with those of your files, and remove the marks of comments from what you keep.'

/** A text with every line as a comment; empty lines and comments stay as they are. */
const commentedOut = (text: string, mark: string): string =>
  [
    `${mark} ${NOTE}`,
    ...text.split('\n').map((line) => (line === '' || line.startsWith(mark) ? line : `${mark} ${line}`)),
  ].join('\n')

/**
 * The example policies. Their names exist in no new folder, so they are comments: `deputy check` would warn of each.
 * The schema is for editors; Deputy checks against the one that came with it.
 */
const examplePolicies = async (): Promise<NewFile[]> =>
  Promise.all(
    (await readdir(shippedPolicies)).map(async (name) => {
      const text = await readFile(join(shippedPolicies, name), 'utf8')
      const mark = MARKS.find(([ending]) => name.endsWith(ending))?.[1]
      return { path: `policies/access/${name}`, text: mark === undefined ? text : commentedOut(text, mark) }
    }),
  )

/** @param settings text of deputy.yaml; default: the template. @returns deputy.yaml first: its creation claims the folder */
export const skeletonFiles = async (random: Random, settings = settingsTemplate): Promise<NewFile[]> => [
  { path: SETTINGS_FILE, text: settings },
  { path: 'state/kek', text: newKeyText(random) },
  ...Object.entries(examples).map(([path, text]) => ({ path, text })),
  ...(await examplePolicies()),
]
