import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseYamlFile, SETTINGS_FILE, settingsSchema } from '#config'
import { isLoopbackHost } from '#foundation/outbound'
import { DevError } from './error.ts'

/** The users of a world have no passwords. @throws DevError when the author's settings open it to other machines */
export const assertLoopback = async (home: string): Promise<void> => {
  const {
    values: [settings],
  } = parseYamlFile(SETTINGS_FILE, await readFile(join(home, SETTINGS_FILE), 'utf8'), settingsSchema)
  if (settings === undefined) return
  const { connect, mcp } = settings.value.listen
  for (const [name, address] of Object.entries({ connect, mcp }))
    if (address !== null && !isLoopbackHost(address.host))
      throw new DevError(
        `${join(home, SETTINGS_FILE)} has Deputy listen on ${address.host} (listen.${name}). A development world is for this machine alone.`,
        `Write 127.0.0.1 there.`,
      )
}
