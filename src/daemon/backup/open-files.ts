import { open, type FileHandle } from 'node:fs/promises'
import { bytesOf, type LogFile } from '#foundation/audit'
import type { Source } from '#foundation/backup'

/** Files that stay readable as they are, also when they are removed meanwhile. */
export interface OpenFiles extends AsyncDisposable {
  readonly sources: readonly Source[]
}

/** @returns undefined where one of them is gone already: its records were removed after their time */
export const openFiles = async (files: readonly LogFile[], folder: string): Promise<OpenFiles | undefined> => {
  const handles: FileHandle[] = []
  const close = async (): Promise<void> => {
    for (const handle of handles) await handle.close()
  }
  try {
    for (const { path } of files) handles.push(await open(path, 'r'))
  } catch (error) {
    await close()
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
  return {
    sources: files.map(({ name, bytes }, at) => ({
      path: `${folder}/${name}`,
      mode: 0o600,
      bytes,
      content: bytesOf(handles[at]!, bytes),
    })),
    [Symbol.asyncDispose]: close,
  }
}
