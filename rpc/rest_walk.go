package rpc

import (
	"net/http"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// walkRoute leads down the tree of places: /v1/walk/PROJECT/ZONE/…/TWIN.
func walkRoute() restRoute {
	return restRoute{method: http.MethodGet, path: "/v1/walk/{path...}", id: "walk", summary: "Walk down the tree of places to a twin, and along relations",
		text: "The path begins with the project. Each further word is the name of a zone that is in the one before, of a twin in it, system:NAME, a " +
			"member of the system, or a step along relations: @TYPE to what the things reached have a relation of that type to, @-TYPE against its " +
			"direction; a name behind such a step chooses one of what it reached. What is there comes by pages, twins with their state.",
		procedure: rpcv1.RelationServiceWalkProcedure, serve: (*restCall).walk, params: pageParams("twins", 1000, 100),
		answers: []restAnswer{{status: 200, text: "What is there", headers: linkHeader, content: messageOf(&pb.WalkResponse{})}}}
}

func (c *restCall) walk() error {
	res, err := calls(c, rpcv1.RelationServiceWalkProcedure, &pb.WalkRequest{Path: c.r.PathValue("path"), PageSize: c.number("page_size"),
		PageToken: c.text("page_token"), State: true}, (&relationService{c.s}).Walk)
	if err != nil {
		return err
	}
	c.nextPage(res.NextPageToken)
	return c.message(http.StatusOK, res)
}
