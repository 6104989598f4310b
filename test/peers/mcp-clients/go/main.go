// The official Go SDK, used as its example says: main URL TOOL..., one line of JSON a step.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
)

func say(facts map[string]any) {
	line, err := json.Marshal(facts)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func openBrowser(url string) error {
	fields := strings.Fields(strings.TrimSuffix(os.Getenv("BROWSER"), "&"))
	for at, field := range fields {
		fields[at] = strings.ReplaceAll(field, "%s", url)
	}
	browser := exec.Command(fields[0], fields[1:]...)
	browser.Stderr = os.Stderr
	return browser.Start()
}

func main() {
	ctx := context.Background()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	redirect := fmt.Sprintf("http://%s/callback", listener.Addr())
	results := make(chan *auth.AuthorizationResult)
	go http.Serve(listener, http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		query := request.URL.Query()
		results <- &auth.AuthorizationResult{Code: query.Get("code"), State: query.Get("state"), Iss: query.Get("iss")}
	}))
	config := &auth.AuthorizationCodeHandlerConfig{
		RedirectURL: redirect,
		AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			if err := openBrowser(args.URL); err != nil {
				return nil, err
			}
			return <-results, nil
		},
	}
	if id := os.Getenv("DEPUTY_TEST_CLIENT"); id != "" {
		config.PreregisteredClient = &oauthex.ClientCredentials{ClientID: id}
	} else {
		config.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{
			Metadata: &oauthex.ClientRegistrationMetadata{
				ClientName:              "Test",
				RedirectURIs:            []string{redirect},
				TokenEndpointAuthMethod: "none",
			},
		}
	}
	handler, err := auth.NewAuthorizationCodeHandler(config)
	if err != nil {
		log.Fatal(err)
	}
	client := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: os.Args[1], OAuthHandler: handler}, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer session.Close()
	listed, err := session.ListTools(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	names := []string{}
	for _, tool := range listed.Tools {
		names = append(names, tool.Name)
	}
	say(map[string]any{"step": "tools", "tools": names})
	for _, tool := range os.Args[2:] {
		result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: tool})
		if err != nil {
			say(map[string]any{"step": tool, "text": err.Error(), "isError": true})
			continue
		}
		text := ""
		for _, content := range result.Content {
			if part, is := content.(*mcp.TextContent); is {
				text += part.Text
			}
		}
		say(map[string]any{"step": tool, "text": text, "isError": result.IsError})
	}
}
