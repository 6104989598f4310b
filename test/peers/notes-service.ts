/** The notes service of the development world, at a port of the system's choice. Its users are `alice-notes` and others, without passwords. */
import { systemClock } from '#clock'
import { KeptRecords, newSigningKey, type NotesService, SERVICE_CLIENT, startNotesService } from '#dev'

export const NOTES_CLIENT = { client_id: SERVICE_CLIENT, client_secret: 'deputy-service-secret' } as const

export const startNotesPeer = async (options: { redirectUri: string }): Promise<NotesService> =>
  startNotesService({
    port: 0,
    key: newSigningKey(),
    cookieKey: 'the key of its cookies',
    secret: NOTES_CLIENT.client_secret,
    redirectUri: options.redirectUri,
    records: await KeptRecords.open(undefined, systemClock),
    remembersUsers: true,
  })
