import { createSecureContext } from 'node:tls'
import type { Logger } from '#foundation/telemetry'
import { readTlsFiles, type TlsFiles, type TlsMaterial } from './tls-files.ts'

/** Interval at which the files are read again (ms). */
const RENEWAL_INTERVAL_MS = 10_000

const isSame = (one: TlsMaterial, other: TlsMaterial): boolean =>
  one.ca === other.ca && one.cert === other.cert && one.key === other.key

/**
 * The files of a connection, read again while the daemon runs: a certificate that was renewed is presented by the
 * connections that begin afterwards. A certificate without its key, as while one file is written before the other, is
 * not used: the pair before stays.
 */
export class RenewedTls implements TlsMaterial {
  readonly #options: { readonly home: string; readonly files: TlsFiles; readonly logger: Logger }
  readonly #timer: NodeJS.Timeout
  #current: TlsMaterial
  #problem: string | undefined

  /** @throws DeputyError `config_invalid` when a file cannot be read, or when others can read the key */
  static async open(
    options: { readonly home: string; readonly files: TlsFiles; readonly logger: Logger },
    interval = RENEWAL_INTERVAL_MS,
  ): Promise<RenewedTls> {
    return new RenewedTls(options, await readTlsFiles(options.home, options.files), interval)
  }

  private constructor(
    options: { readonly home: string; readonly files: TlsFiles; readonly logger: Logger },
    first: TlsMaterial,
    interval: number,
  ) {
    this.#options = options
    this.#current = first
    this.#timer = setInterval(() => {
      void this.#renew()
    }, interval)
    this.#timer.unref()
  }

  get ca(): string | undefined {
    return this.#current.ca
  }

  get cert(): string | undefined {
    return this.#current.cert
  }

  get key(): string | undefined {
    return this.#current.key
  }

  close(): void {
    clearInterval(this.#timer)
  }

  async #renew(): Promise<void> {
    const { home, files, logger } = this.#options
    try {
      const next = await readTlsFiles(home, files)
      if (!isSame(next, this.#current)) {
        createSecureContext({ ...next })
        this.#current = next
        logger.info({ certificate: files.certificate ?? files.ca }, 'TLS files renewed; new connections use them')
      }
      this.#problem = undefined
    } catch (error) {
      const problem = (error as Error).message
      if (problem !== this.#problem)
        logger.warn({ err: error }, 'TLS files not renewed; new connections use those that were read before')
      this.#problem = problem
    }
  }
}

/**
 * What is current, under members that are read anew each time: for drivers that take an object once and read it at each
 * connection.
 */
export const currentTls = (tls: TlsMaterial): TlsMaterial => ({
  get ca() {
    return tls.ca
  },
  get cert() {
    return tls.cert
  },
  get key() {
    return tls.key
  },
})
