import { Secret } from '#foundation/crypto'
import { CommandError, exit } from '../terminal.ts'
import { credentialKey } from './credentials.ts'
import { childEnvironment, PROXY_CA, proxyEnvironment, valueOf } from './environment.ts'
import { openPrivateFiles, type PrivateFiles } from './private-files.ts'
import type { Running } from './running.ts'
import type { SessionStart } from './session.ts'

export interface DeliveryOptions {
  readonly socketPath: string
  readonly server: string
  /** The environment of `deputy exec`. */
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly allowDisk: boolean
}

/** Puts credentials where the command reads them: into its environment, and into files in a private folder. */
export class CredentialDelivery {
  readonly #options: DeliveryOptions
  #files: PrivateFiles | undefined

  constructor(options: DeliveryOptions) {
    this.#options = options
  }

  /** Writes the files that the mapping names. @returns their paths, by the name of the variable. @throws CommandError */
  async writeFiles({ lifeSession, credentials }: Running): Promise<Record<string, string>> {
    const mapped = Object.entries(lifeSession.start.mapping.files)
    if (mapped.length === 0) return {}
    const folder = await this.#privateFiles()
    return Object.fromEntries(
      await Promise.all(
        mapped.map(async ([name, value]): Promise<[string, string]> => {
          const { credential } = credentials.get(credentialKey(value))!
          return [name, await folder.write(value.path, new Secret(valueOf(value, credential)))]
        }),
      ),
    )
  }

  /** The command's environment; writes the files that it names. @throws CommandError */
  async environmentFor(running: Running): Promise<Record<string, string>> {
    const { environment, socketPath } = this.#options
    const { start } = running.lifeSession
    return childEnvironment(environment, {
      ...(start.mapping.socket ? { DEPUTY_SOCKET: socketPath } : {}),
      ...(await this.#proxyVariables(start)),
      ...Object.fromEntries(
        Object.entries(start.mapping.env).map(([name, value]) => [
          name,
          valueOf(value, running.credentials.get(credentialKey(value))!.credential),
        ]),
      ),
      ...(await this.writeFiles(running)),
    })
  }

  /** Removes every file. */
  async wipe(): Promise<void> {
    await this.#files?.wipe()
  }

  async #proxyVariables({ mapping, proxy, token }: SessionStart): Promise<Record<string, string>> {
    const { server } = this.#options
    if (proxy === undefined) {
      if (!mapping.proxy) return {}
      throw new CommandError(
        exit.configuration,
        `The file of ${server} says \`proxy: true\`, and this daemon has no injecting proxy.`,
        'Set it up in deputy.yaml, or take `proxy` out of `exec`.',
      )
    }
    const ca = await (await this.#privateFiles()).write(PROXY_CA, new Secret(proxy.ca))
    return proxyEnvironment({ url: proxy.url, ca }, server, token)
  }

  async #privateFiles(): Promise<PrivateFiles> {
    this.#files ??= await openPrivateFiles({
      runtimeFolder: this.#options.environment['XDG_RUNTIME_DIR'],
      allowDisk: this.#options.allowDisk,
    })
    return this.#files
  }
}
