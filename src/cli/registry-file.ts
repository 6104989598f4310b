import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isMap, parseAllDocuments, stringify, type Document } from 'yaml'
import { replaceFile, createFile } from '../crypto/private-file.ts'
import { CommandError, exit } from './terminal.ts'

/** Changes one document of a YAML file and leaves comments and order as they are. */
export const editDocument = async (
  home: string,
  file: string,
  key: string,
  id: string,
  change: (document: Document) => void,
): Promise<void> => {
  const path = join(home, file)
  const documents = parseAllDocuments(await readFile(path, 'utf8'))
  const list = Array.isArray(documents) ? documents : []
  const document = list.find(({ contents }) => isMap(contents) && (contents.get(key) as unknown) === id)
  if (document === undefined) throw new CommandError(exit.failed, `${file} holds no ${key} ${id}.`)
  change(document as unknown as Document)
  await replaceFile(path, list.map((each) => each.toString()).join(''))
}

/** Writes a new file; an existing one is left alone. */
export const writeNew = async (home: string, file: string, content: object, comment: string): Promise<void> => {
  if (!(await createFile(join(home, file), `# ${comment}\n${stringify(content)}`)))
    throw new CommandError(exit.failed, `${file} exists already.`, `Edit it, then run: deputy check`)
}
