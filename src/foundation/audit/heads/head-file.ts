import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { refuse } from '#errors'
import { assertPrivateFolder, makeFolders, replaceFile } from '#foundation/files'

const headSchema = z.strictObject({
  installation: z.string(),
  node: z.string(),
  number: z.int().min(1),
  seq: z.int().min(1),
  hash: z.string(),
  at: z.int().min(0),
  kid: z.string(),
  signature: z.string(),
})
/** The newest checkpoint of a chain, as it is kept where the store's owner is not. */
export type SignedHead = z.output<typeof headSchema>

const fileSchema = z.strictObject({
  /** The newest head of each chain that the node knows. */
  heads: z.array(headSchema),
  /** Heads that a store had no more; each stays until a person has acknowledged it. */
  missing: z.array(headSchema),
})
export type HeadFile = z.output<typeof fileSchema>

export const noHeads: HeadFile = { heads: [], missing: [] }

/** Makes the folder where it is not there. @throws DeputyError `config_invalid` where others may write in it */
export const openHeadFolder = async (folder: string): Promise<void> => {
  await makeFolders(folder)
  await assertPrivateFolder(folder)
}

export const headFilePath = (folder: string, node: string): string => join(folder, `${node}.json`)

/**
 * @returns undefined for a file that is not there. @throws DeputyError `config_invalid` for one that holds something
 * else
 */
export const readHeadFile = async (path: string): Promise<HeadFile | undefined> => {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  try {
    return fileSchema.parse(JSON.parse(text))
  } catch {
    throw refuse('config_invalid', {
      problem: `${path} does not hold the heads of audit chains: it was altered; move it away, and run deputy audit verify with a copy of it at hand`,
    })
  }
}

/** The files of all nodes that keep their heads in the folder. */
export const headFiles = async (folder: string): Promise<string[]> =>
  (await readdir(folder)).filter((name) => name.endsWith('.json')).map((name) => join(folder, name))

export const writeHeadFile = (path: string, file: HeadFile): Promise<void> =>
  replaceFile(path, `${JSON.stringify(file, null, 2)}\n`)
