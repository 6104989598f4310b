/** What Deputy uses of the package; its own types are those of an HTTP library that is not called. */
declare module 'node-vault' {
  interface Client {
    token: string
    namespace: string
    pathPrefix: string
    request(options: object): Promise<unknown>
  }
  const create: (config: object) => Client
  export = create
}
